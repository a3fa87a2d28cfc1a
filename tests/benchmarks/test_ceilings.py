from __future__ import annotations

import pytest

from deep_delta.benchmarks import ceilings
from tests.benchmarks.conftest import CPU


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ceilings_are_rates_of_what_the_clock_says(precision, monkeypatch):
    monkeypatch.setattr(ceilings, "_GEMM_SIZES", {"cpu": (8, 16)})
    monkeypatch.setattr(ceilings, "_STREAM_BYTES", {"cpu": 1 << 12})
    ticks = iter(range(10_000))
    found = ceilings.measure_ceilings(precision, CPU, clock=lambda: next(ticks) / 5)
    assert [(one.kind, one.precision) for one in found] == [(kind, precision) for kind in ("gemm", "copy", "triad")]
    gemm, copy, triad = (one.per_second for one in found)
    assert (copy, triad) == (pytest.approx(2 * 4096 / 0.2), pytest.approx(3 * 4096 / 0.2))
    assert gemm == pytest.approx(2 * 8**3 / 0.2)  # half a second is spent on the smallest size already
