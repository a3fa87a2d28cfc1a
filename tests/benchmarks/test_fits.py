from __future__ import annotations

import pytest

from deep_delta.benchmarks.case import CrossingPlan, GrowthPlan
from deep_delta.benchmarks.fits import crossings, exponent, growths
from tests.benchmarks.conftest import row


def test_the_exponent_of_a_power_law():
    assert exponent([1, 2, 4, 8], [3 * size**1.5 for size in (1, 2, 4, 8)]) == pytest.approx(1.5)


def test_growth_is_fitted_over_the_rows_that_were_measured():
    rows = {str(size): row(f"growth/{size}/forward", size**2.0, flops=size * 100) for size in (1, 2, 4)}
    (found,) = growths([GrowthPlan("g", "T", {1: "1", 2: "2", 4: "4", 8: "8"})], rows)
    assert (found.exponent, found.counted) == (pytest.approx(2.0), pytest.approx(1.0))
    assert (found.sizes, found.seconds) == ((1, 2, 4), (1.0, 4.0, 16.0))
    assert growths([GrowthPlan("g", "T", {1: "1", 8: "8"})], rows) == ()


@pytest.mark.parametrize(
    ("ratios", "first"),
    [((2.0, 1.5, 0.9, 0.5), 4), ((0.5, 1.5, 0.9, 0.5), 4), ((0.9, 0.8, 0.7, 0.6), 1), ((0.5, 0.5, 0.5, 1.1), None)],
    ids=str,
)
def test_a_crossing_is_where_it_becomes_faster_and_stays_so(ratios, first):
    sizes = (1, 2, 4, 8)
    rows = {f"a{size}": row("peers/a/forward", ratio) for size, ratio in zip(sizes, ratios, strict=True)}
    rows |= {f"b{size}": row("peers/b/forward", 1.0) for size in sizes}
    plan = CrossingPlan("a", "b", {size: (f"a{size}", f"b{size}") for size in sizes})
    (found,) = crossings([plan], rows)
    assert (found.first, found.ratios) == (first, ratios)
    assert crossings([plan], {}) == ()
