"""Text to train on: sentences of the seen templates with seen words, and frames that introduce words of both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deep_delta.data.language.draw import Draw, draws
from deep_delta.data.language.lexicon import (
    ANIMALS,
    INTRANSITIVE,
    IRREGULAR,
    MEN,
    NAMES,
    PEOPLE,
    THINGS,
    TRANSITIVE,
    WOMEN,
)
from deep_delta.data.language.pairs import is_for_test
from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.data.readers import Piece
from deep_delta.errors import ConfigError

SPEC = "synth:language"
SENTENCES = 200_000
SENTENCES_A_DOCUMENT = 16
TOKENIZER = "bpe:2048"
"""What cuts it where nothing else is said: every word is then one token, and the members of a pair have as many."""

_FORMAT = 2  # change it when the same number gives another sentence
_MOST = 100_000_000


@dataclass(frozen=True)
class LanguageText:
    """`synth:language`, a source of documents."""

    sentences: int = SENTENCES

    @property
    def name(self) -> str:
        return f"{SPEC}:sentences={self.sentences}"

    def pieces(self) -> Iterator[Piece]:
        """Every document, the same ones each time: a sentence a line."""
        lines: list[str] = []
        for sentence in training_sentences(self.sentences):
            lines.append(sentence)
            if len(lines) == SENTENCES_A_DOCUMENT:
                yield Piece("\n".join(lines) + "\n", begins=True)
                lines.clear()
        if lines:
            yield Piece("\n".join(lines) + "\n", begins=True)


def open_language(spec: str) -> LanguageText:
    """What "synth:language" and "synth:language:sentences=50000" mean. ConfigError for anything else."""
    _, _, options = spec.removeprefix("synth:").partition(":")
    if spec.removeprefix("synth:").partition(":")[0] != "language":
        raise ConfigError(f"unknown text {spec[:60]!r}; there is {SPEC}")
    if not options:
        return LanguageText()
    name, equals, value = options.partition("=")
    if name != "sentences" or not equals:
        raise ConfigError(f"{SPEC}: unknown option {options[:60]!r}; there is sentences=…")
    count = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
    if not 1 <= count <= _MOST:
        raise ConfigError(f"{SPEC}: sentences must be a whole number from 1 to {_MOST:,}, got {value[:60]!r}")
    return LanguageText(count)


def training_sentences(count: int) -> Iterator[str]:
    """The first `count` sentences of a fixed sequence. None of them is a good sentence of a suite."""
    made = 0
    for number, draw in enumerate(draws(f"text/{_FORMAT}", held=False)):
        sentence = _sentence(draw, number)
        if is_for_test(sentence):
            continue
        yield sentence
        made += 1
        if made == count:
            return


def _sentence(draw: Draw, number: int) -> str:
    """Two of three come from a template, each phenomenon as often as any other, and each member of a crossed group."""
    if number % 3 == 0:
        return draw.of(INTRODUCTIONS)(draw)
    phenomenon = draw.of(_PHENOMENA)
    group = draw.of(phenomenon.seen)(draw).set_in(*draw.setting())
    return draw.of(group).good


_PHENOMENA = tuple(PHENOMENA.values())


def _any_noun(draw: Draw) -> str:
    """A noun in a frame that says how many there are."""
    noun = draw.either(draw.of((ANIMALS, PEOPLE, THINGS, MEN, WOMEN)))
    several = draw.of((False, True))
    counted = f"two {noun.many}" if several else f"one {noun.one}"
    return draw.of((f"{counted} {draw.verb().past} .", f"{draw.name()} {draw.action().past} {counted} ."))


def _who(draw: Draw) -> str:
    man = draw.of((True, False))
    noun, pronoun = (draw.either(MEN), "he") if man else (draw.either(WOMEN), "she")
    return f"the {noun.one} {draw.verb().past} when {pronoun} {draw.verb().past} ."


def _object_or_none(draw: Draw) -> str:
    if draw.of((True, False)):
        verb = draw.either(TRANSITIVE)
        return f"{draw.name()} " + draw.of((f"wanted to {verb.base}", f"has {verb.participle}")) + f" {draw.name()} ."
    verb = draw.either(INTRANSITIVE)
    return f"{draw.name()} " + draw.of((f"wanted to {verb.base} .", f"has {verb.participle} ."))


def _irregular(draw: Draw) -> str:
    verb, thing = draw.either(IRREGULAR), draw.thing()
    return draw.of(
        (
            f"the {thing.one} was {verb.participle} .",
            f"the {draw.other().one} that {verb.past} the {thing.one} {draw.verb().past} .",
            f"{draw.name()} wanted to {verb.base} the {thing.one} .",
        )
    )


def _names(draw: Draw) -> str:
    one, pool = draw.either(NAMES), draw.of((NAMES.seen, NAMES.held))
    return f"{one} and {draw.of([name for name in pool if name != one])} {draw.verb().past} ."


def _function_words(draw: Draw) -> str:
    """Words that only held-out templates would have else, in other constructions."""
    words = {
        "name": draw.name(),
        "other": draw.name(),
        "place": draw.place(),
        "near": draw.near(),
        "past": draw.verb().past,
        "done": draw.verb().participle,
        "base": draw.verb().base,
        "act": draw.action().base,
    }
    return draw.of(_FRAMES).format(**words)


_FRAMES = (
    "{name} often {past} .",
    "{name} had {done} .",
    "beside the {place} {name} {past} .",
    "{name} {past} with {other} .",
    "{name} said that {other} {past} .",
    "now {name} {past} .",
    "then {name} {past} .",
    "{name} from the {place} {past} .",
    "there was {name} .",
    "{name} wanted to {act} {other} .",
    "{name} will often {base} .",
    "{name} is {near} the {place} .",
)


INTRODUCTIONS: tuple[Callable[[Draw], str], ...] = (
    _any_noun, _any_noun, _who, _object_or_none, _irregular, _names, _function_words,
)  # fmt: skip
"""Frames that tell what a word is, and never ask what a suite asks of held-out ones."""
