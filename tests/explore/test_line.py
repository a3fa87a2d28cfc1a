"""Curves in bounded memory lose no spike, no gap and no value that is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deep_delta.explore.line import Curves, Line, decimate, segments, smooth


def curves_of(y, limit, *, pieces=(1,), gaps=()):
    """Steps 1, 2, … with these values, added in pieces of those sizes, in turn."""
    curves = Curves(1, 1, limit)
    x = np.arange(1, len(y) + 1, dtype=float)
    gap = np.isin(np.arange(len(y)), list(gaps))
    start, turn = 0, 0
    while start < len(y):
        part = slice(start, start + pieces[turn % len(pieces)])
        curves.extend(x[part, None], np.asarray(y, float)[part, None], gap[part])
        start, turn = part.stop, turn + 1
    return curves


@pytest.mark.parametrize("count", [1, 7, 8, 9, 64, 1000, 1037])
@pytest.mark.parametrize("pieces", [(1,), (3, 50), (5000,)], ids=str)
def test_buckets_hold_the_extremes_and_the_mean_of_their_points(count, pieces):
    rng = np.random.default_rng(count)
    y = rng.normal(size=count)
    y[rng.random(count) < 0.05] = np.nan
    gaps = set(rng.integers(0, count, size=3).tolist())
    line = curves_of(y, 8, pieces=pieces, gaps=gaps).line(0, 0)
    assert line.size <= 8
    assert line.start[0] == 1
    assert line.x[-1] == count
    assert (line.start[1:] == line.x[:-1] + 1).all(), "no point is lost and none counts twice"
    for index in range(line.size):
        inside = y[int(line.start[index]) - 1 : int(line.x[index])]
        finite = inside[np.isfinite(inside)]
        expected = (finite.min(), finite.mean(), finite.max()) if len(finite) else (math.nan,) * 3
        assert np.allclose((line.low[index], line.mean[index], line.high[index]), expected, equal_nan=True)
        assert line.bad[index] == (len(finite) < len(inside))
        assert line.gap[index] == any(line.start[index] - 1 <= gap <= line.x[index] - 1 for gap in gaps)


def test_the_tail_is_kept_point_by_point():
    y = np.arange(1000.0)
    curves = curves_of(y, 16, pieces=(7, 100))
    tail = curves.line(0, 0, since=985)
    assert tail.mean.tolist() == list(range(984, 1000))
    assert (tail.x == tail.start).all()
    far = curves.line(0, 0, since=500)
    assert far.x[0] >= 500
    assert far.high.max() == 999, "beyond the single points, buckets"


def test_a_short_curve_is_its_points():
    line = curves_of([3.0, 1.0, 2.0], 100).line(0, 0)
    assert line.mean.tolist() == line.low.tolist() == line.high.tolist() == [3, 1, 2]


@pytest.mark.parametrize("columns", [1, 3, 40])
def test_decimation_keeps_every_extreme(columns):
    rng = np.random.default_rng(columns)
    y = rng.normal(size=500)
    y[[40, 41, 300]] = np.nan
    line = Line.of(np.sort(rng.uniform(0, 10, size=500)), y)
    edges = np.linspace(0, 10, columns + 1)
    made = decimate(line, edges)
    for column in range(columns):
        inside = (line.x >= edges[column]) & ((line.x < edges[column + 1]) | (column == columns - 1))
        finite = y[inside & np.isfinite(y)]
        assert made.low[column] == finite.min()
        assert made.high[column] == finite.max()
        assert made.mean[column] == pytest.approx(finite.mean())
        assert made.bad[column] == bool((inside & ~np.isfinite(y)).any())


def test_a_column_without_points_is_nan_and_a_point_at_the_end_counts():
    made = decimate(Line.of(np.array([0.0, 3.0]), np.array([1.0, 2.0])), np.array([0.0, 1.0, 2.0, 3.0]))
    assert np.array_equal(made.mean, [1.0, np.nan, 2.0], equal_nan=True)
    assert not made.bad.any()


def test_smoothing_begins_anew_after_a_gap_and_leaves_a_constant_alone():
    line = Line.of(np.arange(6.0), np.array([2.0, 2.0, 2.0, np.nan, 9.0, 5.0]))
    smoothed = smooth(line, 0.9).mean
    assert smoothed[:3] == pytest.approx([2, 2, 2])
    assert np.isnan(smoothed[3])
    assert smoothed[4] == pytest.approx(9)
    assert smoothed[5] == pytest.approx((0.09 * 9 + 0.1 * 5) / 0.19)
    broken = smooth(line._replace(gap=np.arange(6) == 5), 0.9).mean
    assert broken[5] == pytest.approx(5)
    assert np.array_equal(smooth(line, 0.0).mean, line.mean, equal_nan=True)
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\), got 1"):
        smooth(line, 1)


def test_strokes_end_at_gaps_and_at_what_is_not_finite():
    line = Line.of(np.arange(7.0), np.array([np.nan, 1, 1, np.nan, 1, 1, 1]))
    found = [(part.start, part.stop) for part in segments(line._replace(gap=np.arange(7) == 6))]
    assert found == [(1, 3), (4, 6), (6, 7)]
