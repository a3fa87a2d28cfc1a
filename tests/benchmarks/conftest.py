"""A machine whose clock only the steps move, and benchmarks made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deep_delta.benchmarks.load import LoadMeter
from deep_delta.runs.benchmark import Benchmark, BenchmarkRow, StepTime
from deep_delta.runs.comparison import Origin

CPU = torch.device("cpu")
BLIND = LoadMeter(stat=Path("/there/is/no/stat"))
"""Sees no load."""


class Machine:
    """A clock that only steps move; its load grows from step to step."""

    def __init__(self) -> None:
        self.now = 0.0
        self.load = 1.0
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now

    def step(self, name: str, cost: float) -> Callable[[], None]:
        def run() -> None:
            self.calls.append(name)
            self.now += cost * self.load

        return run


@pytest.fixture
def machine() -> Machine:
    return Machine()


def row(name: str, seconds: float = 1.0, *, spread: float = 0.01, **fields: object) -> BenchmarkRow:
    """A row named suite/…/phase; `spread` is the relative distance of each quartile from the median."""
    relative = float(fields.pop("relative", 1.0))  # type: ignore[arg-type]
    low, high = 1 - spread, 1 + spread
    times = StepTime(
        median=seconds,
        lower=seconds * low,
        upper=seconds * high,
        relative=relative,
        relative_lower=relative * low,
        relative_upper=relative * high,
        rounds=5,
    )
    fixed = {"relative_to": None, "precision": "fp32", "error": 1e-7, "tolerance": 1e-5}
    return BenchmarkRow(
        name=name, suite=name.split("/")[0], phase=name.split("/")[-1], seconds=times, **{**fixed, **fields}
    )


def benchmark(*rows: BenchmarkRow, hardware: dict[str, str] | None = None, **fields: object) -> Benchmark:
    machine = {"system": "Linux", "processor": "P", "cores": "2", "threads": "1", "device": "cpu", **(hardware or {})}
    fixed = {
        "origin": Origin(versions={"torch": "2"}, commit=None, hardware=machine),
        "date": "2026-01-01T00:00:00+00:00",
        "capabilities": ("kernels AVX2",),
        "load": "not checked",
        "quick": False,
        "ceilings": (),
    }
    return Benchmark(rows=rows, **{**fixed, **fields})
