"""The gate: rows against saved ones. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.benchmark import Benchmark, BenchmarkRow

Kind = Literal["time", "ratio", "memory"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_DECISIVE = {"processor": "processor", "gpu": "GPU", "threads": "number of threads", "device": "kind of device"}
_SLACK = 4096  # bytes; a few scalars more or less are no regression


@dataclass(frozen=True)
class Change:
    """One figure of a row, before and now; larger is worse."""

    name: str
    kind: Kind
    figure: str
    before: float
    after: float
    is_regression: bool
    """beyond the tolerance, and beyond the spread of both measurements"""

    @property
    def growth(self) -> float:
        """0.2 is 20% more than before."""
        return self.after / self.before - 1 if self.before else float(self.after > 0)


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison with a saved benchmark."""

    changes: tuple[Change, ...]
    missing: Mapping[str, str]
    """rows of the saved one that cannot be compared, and why"""

    @property
    def regressions(self) -> list[Change]:
        return sorted((change for change in self.changes if change.is_regression), key=lambda change: -change.growth)

    @property
    def passes(self) -> bool:
        return not self.regressions and not self.missing


def require_same_machine(before: Benchmark, hardware: Mapping[str, str], where: str) -> None:
    """`ConfigError` naming what differs, where times of the two machines cannot be compared."""
    for key, what in _DECISIVE.items():
        saved, here = (_machine(one).get(key, "none") for one in (before.origin.hardware, hardware))
        if saved != here:
            raise ConfigError(
                f"{where} has {what} {saved} and this run has {here}; save a baseline here, or compare all the same "
                "with --any-device"
            )


def judge(
    now: Benchmark,
    before: Benchmark,
    *,
    tolerance: float,
    kinds: Collection[Kind] = KINDS,
    covers: Callable[[BenchmarkRow], bool] = lambda row: True,
) -> Verdict:
    """Compare every row with the saved row of the same name.

    tolerance: 0.15 allows 15% more. A time or ratio is a regression when its median exceeds that and its lower quartile
    the saved upper quartile too: a spread as wide as the change resolves nothing.
    covers: which of the saved rows this run was asked to measure again.

    `DataError` when the two have no row in common.
    """
    rows = now.by_name
    changes: list[Change] = []
    missing: dict[str, str] = {}
    for saved in filter(covers, before.rows):
        row = rows.get(saved.name)
        if row is None:
            missing[saved.name] = _why_missing(now, saved.name)
        elif row.loaded or saved.loaded:
            missing[saved.name] = f"measured under load {'now' if row.loaded else 'when it was saved'}"
        else:
            changes += _changes(saved, row, tolerance, kinds)
    if not changes and not missing:
        raise DataError("the baseline has none of the rows that were asked for; save one with the same options")
    return Verdict(tuple(changes), missing)


def _changes(before: BenchmarkRow, after: BenchmarkRow, tolerance: float, kinds: Collection[Kind]) -> Iterator[Change]:
    old, new = before.seconds, after.seconds
    if "time" in kinds:
        beyond = new.median > old.median * (1 + tolerance) and new.lower > old.upper
        yield Change(after.name, "time", "seconds", old.median, new.median, beyond)
    if "ratio" in kinds and after.relative_to == before.relative_to not in (None, after.name):
        beyond = new.relative > old.relative * (1 + tolerance) and new.relative_lower > old.relative_upper
        yield Change(after.name, "ratio", f"time ÷ {after.relative_to}", old.relative, new.relative, beyond)
    if "memory" in kinds:
        for figure, was, is_now in (
            ("peak bytes", before.peak_bytes, after.peak_bytes),
            ("saved bytes", before.saved_bytes, after.saved_bytes),
        ):
            if was is not None and is_now is not None:
                beyond = is_now > was * (1 + tolerance) + _SLACK
                yield Change(after.name, "memory", figure, was, is_now, beyond)


def _why_missing(now: Benchmark, name: str) -> str:
    """The reason that the run gave for the row or its case."""
    for one in now.unmeasured:
        if name == one.name or name.startswith(f"{one.name}/"):
            return one.reason
    return "no longer there"


def _machine(hardware: Mapping[str, str]) -> dict[str, str]:
    return {**hardware, "device": hardware.get("device", "none").partition(":")[0]}
