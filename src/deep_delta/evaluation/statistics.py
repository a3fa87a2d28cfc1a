"""How sure a share is, and whether two models differ on the same questions."""

# N questions, C clusters

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

EXACT_CLUSTERS = 16
DRAWS = 100_000
_Z = 1.959963984540054  # the 97.5% quantile of the normal distribution


def wilson(right: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, 1927); ties may have counted one half. ValueError for no question."""
    if count < 1 or not 0 <= right <= count:
        raise ValueError(f"right must be in [0, count] with count at least 1, got {right} of {count}")
    share, square = right / count, _Z * _Z
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_mcnemar(one: np.ndarray, other: np.ndarray, clusters: np.ndarray) -> tuple[float, int]:
    """Two-sided p that two models' scores of the same N questions differ by no more than this, and the number of
    clusters that differ at all.

    one, other: 1 right, 0 wrong, 0.5 a tie, float64 [N]. clusters: int64 [N]; questions of one are not independent, so
    the signs of whole clusters' differences are exchanged: all 2^C ways where C ≤ 16, else 100,000 fixed random ones.
    With a question to a cluster it is McNemar's exact test.
    """
    difference = np.asarray(one, float) - np.asarray(other, float)
    _, place = np.unique(clusters, return_inverse=True)
    sums = np.bincount(place, weights=difference)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0, 0
    observed = abs(sums.sum()) - 1e-9
    if len(sums) <= EXACT_CLUSTERS:
        ways = np.arange(1 << len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((2 * ways - 1) @ sums) >= observed).mean()), len(sums)
    signs = np.random.default_rng(0).integers(0, 2, size=(DRAWS, len(sums)), dtype=np.int8)
    beyond = int((np.abs((2.0 * signs - 1) @ sums) >= observed).sum())
    return (beyond + 1) / (DRAWS + 1), len(sums)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, 1979), in the same order."""
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return adjusted
