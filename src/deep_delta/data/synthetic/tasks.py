"""Which tasks there are, and what `synth:TASK:OPTION=VALUE,…` means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from deep_delta.data.synthetic.arithmetic import BracketedArithmetic, ModularArithmetic
from deep_delta.data.synthetic.brackets import MOST_KINDS, Dyck
from deep_delta.data.synthetic.copying import MOST_SYMBOLS, Copying
from deep_delta.data.synthetic.entities import Entities
from deep_delta.data.synthetic.groups import WordProblem, cyclic, symmetric
from deep_delta.data.synthetic.lookup import MultiHop
from deep_delta.data.synthetic.ordering import TransitiveOrder
from deep_delta.data.synthetic.reasoning import BooleanExpression, Chaining
from deep_delta.data.synthetic.recall import Recall
from deep_delta.data.synthetic.rewriting import Overwrite, SkewedRecall
from deep_delta.data.synthetic.rule import Rule
from deep_delta.data.synthetic.task import Lengths, Task
from deep_delta.errors import ConfigError

SCHEME = "synth"
TEXTS = ("language",)
"""What `synth:` makes that is a text, and no task."""
MOST_LENGTH = 1 << 16
_MOST_WORDS = 1 << 15


class Count(NamedTuple):
    """An option that is a whole number."""

    default: int
    least: int
    most: int


@dataclass(frozen=True)
class Kind:
    """A row of `TASKS`: what is asked, its rule, and the options that it has, with their defaults."""

    summary: str
    rule: Callable[..., Rule]
    train: Lengths
    test: Lengths
    counts: Mapping[str, Count] = field(default_factory=dict)
    train_option: str = "train"

    @property
    def options(self) -> tuple[str, ...]:
        return (self.train_option, "test", *self.counts)


_KEYS_AND_VALUES = {"keys": Count(64, 1, _MOST_WORDS), "values": Count(64, 2, _MOST_WORDS)}
_ATOMS = {"atoms": Count(12, 4, 64)}
_STATES = "the product of all tokens so far, after each, in the group"
TASKS: Mapping[str, Kind] = {
    "parity": Kind(
        "whether the number of ones so far is odd, after each bit",
        lambda: WordProblem(cyclic(2)), Lengths(3, 40), Lengths(40, 256),
    ),
    "modular-arithmetic": Kind(
        "the value modulo 5 of digits with + - * between them", ModularArithmetic, Lengths(3, 40), Lengths(40, 256)
    ),
    "modular-arithmetic-brackets": Kind(
        "the same, every operation in brackets", BracketedArithmetic, Lengths(3, 40), Lengths(40, 256)
    ),
    "s3": Kind(f"{_STATES} S3", lambda: WordProblem(symmetric(3)), Lengths(3, 32), Lengths(32, 256)),
    "a5": Kind(f"{_STATES} A5", lambda: WordProblem(symmetric(5, even=True)), Lengths(3, 32), Lengths(32, 256)),
    "s5": Kind(f"{_STATES} S5", lambda: WordProblem(symmetric(5)), Lengths(3, 32), Lengths(32, 256)),
    "recall": Kind(
        "the value that stood behind a key, for each of some pairs", Recall, Lengths(16, 16), Lengths(16, 64),
        counts=_KEYS_AND_VALUES, train_option="pairs",
    ),
    "recall-skewed": Kind(
        "the same, the last pairs asked for more often, by a power law", SkewedRecall, Lengths(16, 16), Lengths(16, 64),
        counts=_KEYS_AND_VALUES, train_option="pairs",
    ),
    "overwrite": Kind(
        "the latest value of each key, after several writes", Overwrite, Lengths(8, 32), Lengths(32, 128),
        counts={"keys": Count(32, 1, _MOST_WORDS), "values": Count(32, 2, _MOST_WORDS), "rewrites": Count(4, 1, 1024)},
        train_option="writes",
    ),
    "zn": Kind(
        "the sum of all numbers so far, modulo n", lambda order: WordProblem(cyclic(order)), Lengths(3, 40),
        Lengths(40, 256), counts={"order": Count(5, 2, 97)},
    ),
    "multihop": Kind(
        "the key that is reached by following pointers", MultiHop, Lengths(4, 12), Lengths(12, 32),
        counts={"keys": Count(32, 2, _MOST_WORDS), "hops": Count(2, 1, 64)},
    ),
    "chaining": Kind(
        "whether an atom follows from facts and rules, which were drawn freely",
        lambda atoms: Chaining(atoms, by_labels=False), Lengths(4, 16), Lengths(16, 32), counts=_ATOMS,
    ),
    "chaining-labels": Kind(
        "the same, of rules drawn to agree with what is to follow",
        lambda atoms: Chaining(atoms, by_labels=True), Lengths(4, 16), Lengths(16, 32), counts=_ATOMS,
    ),
    "boolean": Kind(
        "the value of a bracketed expression of and, or and not", BooleanExpression, Lengths(2, 8), Lengths(8, 32),
        counts={"depth": Count(5, 1, 16)},
    ),
    "order": Kind(
        "which of two comes first, from neighbours told out of order", TransitiveOrder, Lengths(3, 10), Lengths(10, 24),
        counts={"elements": Count(24, 2, _MOST_WORDS)},
    ),
    "dyck": Kind(
        "the bracket that may close next, after each of nested brackets", Dyck, Lengths(4, 40), Lengths(40, 256),
        counts={"kinds": Count(3, 1, MOST_KINDS), "depth": Count(6, 1, 1024)},
    ),
    "entities": Kind(
        "which box each thing is in, after moving and pouring", Entities, Lengths(2, 12), Lengths(12, 48),
        counts={"things": Count(5, 1, 1024), "boxes": Count(5, 2, 1024)},
    ),
    "copying": Kind(
        "a string, once more after a separator", lambda symbols: Copying(symbols), Lengths(4, 32), Lengths(32, 128),
        counts={"symbols": Count(16, 2, MOST_SYMBOLS)},
    ),
}  # fmt: skip


def is_task(spec: str | None) -> bool:
    """Whether `--data` names a task (in whatever case, so that a wrong one is told as such)."""
    if spec is None or not spec.lower().startswith(f"{SCHEME}:"):
        return False
    return spec.split(":")[1] not in TEXTS


def parse_task(spec: str) -> Task:
    """The task of "synth:parity" or "synth:recall:pairs=4-16,keys=128". Lengths are one number or a range.

    Without `test`, the test lengths go from the longest of training to the default's longest. ConfigError, which lists
    what there is, for an unknown task or option and for values out of range.
    """
    scheme, _, rest = spec.partition(":")
    name, _, text = rest.partition(":")
    if scheme != SCHEME or name not in TASKS:
        raise ConfigError(
            f"unknown task {spec[:60]!r}; there are {', '.join(f'{SCHEME}:{one}' for one in (*TASKS, *TEXTS))}"
        )
    kind, where = TASKS[name], f"{SCHEME}:{name}"
    given = _options(where, text, kind)
    counts = {option: _count(where, option, given, count) for option, count in kind.counts.items()}
    rule = kind.rule(**counts)
    longest = MOST_LENGTH if rule.longest is None else rule.longest
    train = _lengths(where, kind.train_option, given)
    train = train or Lengths(min(kind.train.first, longest), min(kind.train.last, longest))
    test = _lengths(where, "test", given) or Lengths(train.last, max(train.last, min(kind.test.last, longest)))
    for option, lengths in ((kind.train_option, train), ("test", test)):
        if lengths.last > longest:
            raise ConfigError(
                f"{where}: {option} {lengths} is more than the {longest:,} {rule.unit} that there can be"
                + (f"; give keys={lengths.last} or fewer {rule.unit}" if "keys" in kind.counts else "")
            )
    values = {kind.train_option: train, "test": test, **counts}
    return Task(f"{where}:{','.join(f'{option}={value}' for option, value in values.items())}", rule, train, test)


def _options(where: str, text: str, kind: Kind) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in text.split(",") if text else ():
        option, equals, value = part.partition("=")
        if option not in kind.options or not equals:
            there = ", ".join(f"{one}=…" for one in kind.options)
            raise ConfigError(f"{where}: unknown option {part[:60]!r}; there are {there}")
        if option in given:
            raise ConfigError(f"{where}: {option} is given twice")
        given[option] = value
    return given


def _count(where: str, option: str, given: Mapping[str, str], count: Count) -> int:
    if option not in given:
        return count.default
    value = _whole(given[option])
    if value is None or not count.least <= value <= count.most:
        raise ConfigError(
            f"{where}: {option} must be a whole number from {count.least} to {count.most:,}, got {given[option][:60]!r}"
        )
    return value


def _lengths(where: str, option: str, given: Mapping[str, str]) -> Lengths | None:
    if option not in given:
        return None
    first_text, dash, last_text = given[option].partition("-")
    first = _whole(first_text)
    last = _whole(last_text) if dash else first
    if first is None or last is None or first < 1 or last < first:
        raise ConfigError(
            f"{where}: {option} must be a length or a range of lengths, at least 1, as 40 or 3-40, "
            f"got {given[option][:60]!r}"
        )
    return Lengths(first, last)


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
