"""What the project holds itself to, as data, and what the paper authors' released code reached.

The released code (arXiv 2601.00417) was measured on another machine, in eager mode: read its column as a direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from deep_delta.runs.benchmark import Benchmark, BenchmarkRow

Measure = Literal["speed", "time", "saved", "exponent", "crossing"]

MEASURES: dict[Measure, str] = {
    "speed": "speed ÷ {}",
    "time": "time ÷ {}",
    "saved": "saved ÷ {}",
    "exponent": "time grows as {}^p",
    "crossing": "faster than {} from",
}


@dataclass(frozen=True)
class Bar:
    """One figure that rows of some name have to reach."""

    rows: str
    """a glob of row names"""
    measure: Measure
    bar: float
    at_least: bool = False
    released: float | None = None
    """what the authors' released code reached, in eager mode, on another machine"""
    against: str | None = None
    """the only one that the ratio counts against; anyone when unset"""

    def holds(self, value: float) -> bool:
        return value >= self.bar if self.at_least else value <= self.bar


@dataclass(frozen=True)
class Standing:
    """A row beside its bar."""

    name: str
    bar: Bar
    against: str
    value: float

    @property
    def holds(self) -> bool:
        return self.bar.holds(self.value)


def _speed(slug: str, precision: str, bar: float, released: float, where: str = "small") -> Bar:
    return Bar(f"model/{slug}/*/{precision}/{where}-*/forward_backward", "speed", bar, True, released)


def _rule(length: int, bar: float) -> Bar:
    return Bar(
        f"peers/delta_rule/deep_delta/fp32/B2H8T{length}K64/forward_backward", "time", bar, against="transformers"
    )


BARS: dict[str, tuple[Bar, ...]] = {
    "cpu": (
        _speed("ddl-cc-ec", "fp32", 0.92, 0.62),
        _speed("ddl-cc-ec", "bf16", 0.88, 0.35),
        _speed("ddl-ec", "fp32", 0.87, 0.57),
        _speed("ddl-ec", "bf16", 0.80, 0.34),
        _speed("ddl", "fp32", 0.98, 0.97),
        _speed("ddl", "bf16", 0.95, 0.89),
        Bar("decode/ddl*/fp32/124m-*/forward", "speed", 0.95, True),
        Bar("decode/deltanet/fp32/124m-*T65536/forward", "time", 1.05),
        Bar("model/ddl-cc-ec/*/forward_backward", "saved", 1.40, released=1.77),
        Bar("model/ddl-cc-ec-rebuilt/*/forward_backward", "saved", 1.08, released=1.77),
        _rule(1024, 0.67),
        _rule(4096, 0.41),
        _rule(16384, 0.03),
        Bar("growth/T/chunk_delta_rule", "exponent", 1.1),
        Bar("peers/delta_rule/deep_delta/fp32", "crossing", 600),
    ),
    "cuda": (
        _speed("ddl-cc-ec", "bf16", 0.90, 0.767, "124m"),
        _speed("ddl", "bf16", 0.96, 0.882, "124m"),
    ),
}
"""By kind of device."""


def standings(benchmark: Benchmark) -> list[Standing]:
    """Every bar that something in the benchmark can be held against; rows of a loaded machine are held against none."""
    device = benchmark.origin.hardware["device"].partition(":")[0]
    return [standing for bar in BARS.get(device, ()) for standing in _standings(bar, benchmark)]


def _standings(bar: Bar, benchmark: Benchmark) -> list[Standing]:
    if bar.measure == "exponent":
        return [
            Standing(one.name, bar, one.axis, one.exponent)
            for one in benchmark.growth
            if fnmatchcase(one.name, bar.rows) and not benchmark.quick
        ]
    if bar.measure == "crossing":
        return [
            Standing(one.name, bar, short_name(one.other), math.inf if one.first is None else float(one.first))
            for one in benchmark.crossings
            if fnmatchcase(one.name, bar.rows)
        ]
    rows = {row.name: row for row in benchmark.rows if not row.loaded}
    found = []
    for row in rows.values():
        reference = rows.get(row.relative_to or "")
        if reference is None or not fnmatchcase(row.name, bar.rows):
            continue
        against, value = short_name(reference.name), _value(bar.measure, row, reference)
        if value is not None and bar.against in (None, against):
            found.append(Standing(row.name, bar, against, value))
    return found


def _value(measure: Measure, row: BenchmarkRow, reference: BenchmarkRow) -> float | None:
    if measure == "speed":
        return 1 / row.seconds.relative
    if measure == "time":
        return row.seconds.relative
    if row.saved_bytes is None or not reference.saved_bytes:
        return None
    return row.saved_bytes / reference.saved_bytes


def short_name(name: str) -> str:
    """What tells the cases of a group apart: the variant of a model, the backend or package of an operator."""
    parts = name.split("/")
    return parts[2] if parts[0] in ("operator", "peers", "normalization") else parts[1]
