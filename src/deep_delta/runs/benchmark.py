"""A saved benchmark: every row with its spread, the machine's own ceilings beside it, and what measured it."""

from __future__ import annotations

from typing import Literal

from deep_delta.runs.comparison import Origin
from deep_delta.runs.record import Record
from deep_delta.runs.result import Result

Precision = Literal["fp32", "bf16"]
Phase = Literal["forward", "forward_backward", "step"]

SUITES = {
    "operator": "the delta update and the delta rule, every backend, against the reference",
    "block": "DeltaResidual, and one transformer block of each variant",
    "compressor": "what reads the state before a sublayer",
    "normalization": "RMSNorm and the direction's normalisation",
    "model": "all six variants against the additive baseline",
    "decode": "one more token of a text, batch 1, against the additive baseline",
    "peers": "the delta rule beside other packages' and attention, in the same run",
    "growth": "how time grows with length, width, value channels and layers",
}
"""The parts of a benchmark, and what each measures."""


class StepTime(Record):
    """Seconds of one step, over the rounds."""

    median: float
    lower: float
    """first quartile"""
    upper: float
    """third quartile"""
    relative: float
    """median, over the rounds, of this step's time over the reference step's in the same round: 2 is half as fast"""
    relative_lower: float
    relative_upper: float
    rounds: int


class Ceiling(Record):
    """The most that this machine was seen to do, in the same run."""

    kind: Literal["gemm", "copy", "triad"]
    precision: Precision
    per_second: float
    """FLOP for gemm, bytes read and written for copy (b → a) and triad (a = b + s·c)"""
    by: str
    """what reached it"""


class BenchmarkRow(Record):
    """One phase of one case: correct, and timed while nothing else loaded the machine (unless `loaded`)."""

    name: str
    """suite/what/…/precision/shape/phase"""
    suite: str
    phase: Phase
    precision: Precision
    seconds: StepTime
    relative_to: str | None
    """the row of the same interleaved group that `seconds.relative` divides by"""
    error: float
    """relative error, against fp64, of the checked output or gradient that came closest to its bound"""
    tolerance: float
    """that bound"""
    tokens: int | None = None
    """of one run"""
    flops: int | None = None
    """counted, of one run; None where they are not counted"""
    bytes_moved: int | None = None
    """counted: every operand read once, every result written once"""
    peak_bytes: int | None = None
    """measured: the most that one run holds beyond its parameters and inputs"""
    saved_bytes: int | None = None
    """measured: what forward keeps for backward, parameters excluded, shared memory counted once"""
    loaded: bool = False
    """measured although something else loaded the machine; never passes a gate"""

    @property
    def tokens_per_second(self) -> float | None:
        return None if self.tokens is None else self.tokens / self.seconds.median

    @property
    def flops_per_second(self) -> float | None:
        return None if self.flops is None else self.flops / self.seconds.median

    @property
    def bytes_per_second(self) -> float | None:
        return None if self.bytes_moved is None else self.bytes_moved / self.seconds.median


class Unmeasured(Record):
    """A case that has no row, and why."""

    name: str
    reason: str
    kind: Literal["skipped", "wrong", "loaded"]
    """not possible here; not what the reference computes; refused because of what else ran"""


class Growth(Record):
    """time ∝ size^exponent, fitted over rows that differ in one size."""

    name: str
    axis: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float
    counted: float | None
    """the same exponent of the counted operations; None where they are not counted"""


class Crossing(Record):
    """The first size at which one row is faster than another and stays so; None when none of the sizes is."""

    name: str
    other: str
    sizes: tuple[int, ...]
    ratios: tuple[float, ...]
    """time of `name` over time of `other`"""
    first: int | None


class Benchmark(Result):
    """One run of `ddl benchmark`."""

    noun = "benchmark"
    command = "ddl benchmark"

    format_version: Literal[1] = 1
    origin: Origin
    date: str
    """UTC, ISO 8601"""
    capabilities: tuple[str, ...]
    """what decides which kernels run: instruction sets, libraries"""
    load: str
    """how other load was watched, or why it was not"""
    quick: bool
    """a smaller selection, fewer rounds"""
    rows: tuple[BenchmarkRow, ...]
    ceilings: tuple[Ceiling, ...]
    unmeasured: tuple[Unmeasured, ...] = ()
    growth: tuple[Growth, ...] = ()
    crossings: tuple[Crossing, ...] = ()

    @property
    def by_name(self) -> dict[str, BenchmarkRow]:
        return {row.name: row for row in self.rows}
