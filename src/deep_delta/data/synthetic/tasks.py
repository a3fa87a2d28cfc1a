"""Which tasks there are, and what `synth:TASK:OPTION=VALUE,…` means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from deep_delta.data.synthetic.arithmetic import BracketedArithmetic, ModularArithmetic
from deep_delta.data.synthetic.copying import MOST_SYMBOLS, Copying
from deep_delta.data.synthetic.groups import WordProblem, cyclic, symmetric
from deep_delta.data.synthetic.recall import Recall
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
        counts={"keys": Count(64, 1, _MOST_WORDS), "values": Count(64, 2, _MOST_WORDS)}, train_option="pairs",
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
