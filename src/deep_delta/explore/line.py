"""A curve in bounded memory: buckets of consecutive points that keep the least and the greatest of each.

Nothing is sampled, so a single spike stays as high as it was, whatever the length of the run.
"""

# N points or buckets, C columns of a chart, A axes, M measures

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Literal, NamedTuple, get_args

import numpy as np

Axis = Literal["step", "tokens", "flops", "seconds"]
AXES: tuple[Axis, ...] = get_args(Axis)

BUCKETS = 4096
"""The most buckets of a whole curve; twice as many points fall into each when they are used up."""


class Line(NamedTuple):
    """N points, or buckets of consecutive points, in the order of x. All arrays are [N]."""

    x: np.ndarray
    """where each ends"""
    start: np.ndarray
    """where it begins: x for a single point"""
    low: np.ndarray
    """least finite value; NaN where there is none, as in `mean` and `high`"""
    mean: np.ndarray
    high: np.ndarray
    bad: np.ndarray
    """bool: it has a value that is missing or not finite"""
    gap: np.ndarray
    """bool: something is missing before it, or inside; no stroke joins it to the one before"""

    @property
    def size(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Line:
        """Single points; y may be NaN."""
        bad = ~np.isfinite(y)
        y = np.where(bad, np.nan, y)
        return cls(x, x, y, y, y, bad, np.zeros(len(x), bool))

    def between(self, first: float, last: float) -> Line:
        """The points that end in [first, last]."""
        inside = (self.x >= first) & (self.x <= last)
        return Line(*(column[inside] for column in self))


EMPTY = Line.of(np.empty(0), np.empty(0))


def decimate(line: Line, edges: np.ndarray) -> Line:
    """One bucket for each column of a chart: column c has the points with edges[c] ≤ x < edges[c + 1], the last one
    also those at its end; edges [C + 1] ascend. `gap` is whether a stroke from the column before would cross a gap.

    Each keeps least, greatest and mean of its points. Columns without a point are NaN, and neither bad nor gap.
    """
    columns = len(edges) - 1
    inside = (line.x >= edges[0]) & (line.x <= edges[-1])
    part = Line(*(each[inside] for each in line))
    place = np.clip(np.searchsorted(edges, part.x, side="right") - 1, 0, columns - 1)
    low, high, total = np.full(columns, np.inf), np.full(columns, -np.inf), np.zeros(columns)
    count, bad, gap = np.zeros(columns), np.zeros(columns, bool), np.zeros(columns, bool)
    finite = np.isfinite(part.mean)
    np.minimum.at(low, place[finite], part.low[finite])
    np.maximum.at(high, place[finite], part.high[finite])
    np.add.at(total, place[finite], part.mean[finite])
    np.add.at(count, place[finite], 1)
    np.logical_or.at(bad, place, part.bad)
    np.logical_or.at(gap, place, part.gap)
    none = count == 0
    mean = np.divide(total, count, out=np.full(columns, np.nan), where=~none)
    return Line(edges[1:], edges[:-1], np.where(none, np.nan, low), mean, np.where(none, np.nan, high), bad, gap)


def smooth(line: Line, weight: float) -> Line:
    """The exponential mean of `mean`, in which the past counts `weight` (0 changes nothing, below 1); begun anew after
    a gap or a value that is not finite, and corrected for its start."""
    if not 0 <= weight < 1:
        raise ValueError(f"weight must be in [0, 1), got {weight}")
    smoothed = np.empty(line.size)
    average = norm = 0.0
    for index, (value, gap) in enumerate(zip(line.mean.tolist(), line.gap.tolist(), strict=True)):
        if gap or value != value:
            average = norm = 0.0
        if value != value:
            smoothed[index] = np.nan
            continue
        average, norm = weight * average + (1 - weight) * value, weight * norm + (1 - weight)
        smoothed[index] = average / norm
    return line._replace(low=smoothed, mean=smoothed, high=smoothed)


def segments(line: Line) -> Iterator[slice]:
    """The stretches that a stroke may join: broken at gaps, and where a value is missing."""
    broken = np.isnan(line.mean)
    group = np.cumsum(line.gap | broken)
    for (is_broken, _), indices in groupby(range(line.size), key=lambda i: (bool(broken[i]), int(group[i]))):
        if not is_broken:
            members = list(indices)
            yield slice(members[0], members[-1] + 1)


class Curves:
    """M measures over A axes in bounded memory, added to at the end: at most `limit` buckets for all of it, and at
    least the last `limit` points one by one."""

    def __init__(self, num_axes: int, num_measures: int, limit: int = BUCKETS) -> None:
        self.limit = limit
        self._whole = Buckets(num_axes, num_measures, limit)
        self._tail = Buckets(num_axes, num_measures, 2 * limit)

    @property
    def num_points(self) -> int:
        return self._whole.num_points

    def extend(self, axes: np.ndarray, values: np.ndarray, gap: np.ndarray) -> None:
        """Add points: axes float64 [N, A], values float64 [N, M] (NaN where one is missing), gap bool [N]."""
        step = self.limit // 2
        for begin in range(0, len(axes), step):
            part = slice(begin, begin + step)
            while self._whole.room < len(axes[part]):
                self._whole.merge_pairs()
            if self._tail.room < len(axes[part]):
                self._tail.drop(self._tail.size - self.limit)
            for buckets in (self._whole, self._tail):
                buckets.append(axes[part], values[part], gap[part])

    def line(self, axis: int, measure: int, since: float | None = None) -> Line:
        """A curve as it is kept; with `since`, from that x on, point by point where single points reach so far back."""
        if since is None:
            return self._whole.line(axis, measure)
        tail = self._tail.line(axis, measure)
        reaches = tail.size > 0 and (tail.x[0] <= since or tail.size == self.num_points)
        return (tail if reaches else self._whole.line(axis, measure)).between(since, np.inf)


class Buckets:
    """At most `capacity` buckets of `per` points each; the n-th point is in bucket n // per."""

    def __init__(self, num_axes: int, num_measures: int, capacity: int) -> None:
        self.capacity, self.per, self.num_points = capacity, 1, 0
        self.x, self.start = np.empty((2, capacity, num_axes))
        self.low, self.high, self.total, self.count = np.empty((4, capacity, num_measures))
        self.bad, self.gap = np.empty((capacity, num_measures), bool), np.empty((capacity, 1), bool)

    @property
    def size(self) -> int:
        """How many buckets there are."""
        return -(-self.num_points // self.per)

    @property
    def room(self) -> int:
        """How many more points there is a place for."""
        return self.capacity * self.per - self.num_points

    @property
    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.x, self.start, self.low, self.high, self.total, self.count, self.bad, self.gap

    def append(self, axes: np.ndarray, values: np.ndarray, gap: np.ndarray) -> None:
        places = (self.num_points + np.arange(len(axes))) // self.per
        first_new = self.size
        begins = np.flatnonzero(np.diff(places, prepend=first_new - 1))
        new = places[begins]
        self.start[new] = axes[begins]
        for array, empty in ((self.low, np.inf), (self.high, -np.inf), (self.total, 0.0), (self.count, 0.0)):
            array[new] = empty
        self.bad[new], self.gap[new] = False, False
        self.x[places] = axes  # the last of each bucket stays
        finite = np.isfinite(values)
        np.minimum.at(self.low, places, np.where(finite, values, np.inf))
        np.maximum.at(self.high, places, np.where(finite, values, -np.inf))
        np.add.at(self.total, places, np.where(finite, values, 0.0))
        np.add.at(self.count, places, finite)
        np.logical_or.at(self.bad, places, ~finite)
        np.logical_or.at(self.gap, places, gap[:, None])
        self.num_points += len(axes)

    def merge_pairs(self) -> None:
        """Twice as many points to a bucket; an odd last one waits for more."""
        size, even = self.size, self.size // 2 * 2
        for array in self._columns:
            one, other = array[0:even:2], array[1:even:2]
            if array is self.x:
                joined = other
            elif array is self.start:
                joined = one
            elif array is self.low:
                joined = np.minimum(one, other)
            elif array is self.total or array is self.count:
                joined = one + other
            else:  # high, bad, gap
                joined = np.maximum(one, other)
            merged = np.concatenate((joined, array[even:size]))
            array[: len(merged)] = merged
        self.per *= 2

    def drop(self, count: int) -> None:
        """Forget the first ones, where each is a point."""
        assert self.per == 1
        for array in self._columns:
            array[: self.size - count] = array[count : self.size].copy()
        self.num_points -= count

    def line(self, axis: int, measure: int) -> Line:
        n = self.size
        count = self.count[:n, measure]
        none = count == 0
        mean = np.divide(self.total[:n, measure], count, out=np.full(n, np.nan), where=~none)
        low, high = (np.where(none, np.nan, array[:n, measure]) for array in (self.low, self.high))
        x, start, bad = self.x[:n, axis].copy(), self.start[:n, axis].copy(), self.bad[:n, measure].copy()
        return Line(x, start, low, mean, high, bad, self.gap[:n, 0].copy())
