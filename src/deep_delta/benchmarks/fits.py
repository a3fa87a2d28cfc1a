"""What several rows say together: how time grows, and from which size on one is faster than another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from deep_delta.benchmarks.case import CrossingPlan, GrowthPlan
from deep_delta.runs.benchmark import BenchmarkRow, Crossing, Growth


def growths(plans: Sequence[GrowthPlan], rows: Mapping[str, BenchmarkRow]) -> tuple[Growth, ...]:
    """The exponents of those plans of which at least two rows were measured."""
    return tuple(found for plan in plans if (found := _growth(plan, rows)) is not None)


def crossings(plans: Sequence[CrossingPlan], rows: Mapping[str, BenchmarkRow]) -> tuple[Crossing, ...]:
    """The crossings of those plans of which anything was measured."""
    return tuple(found for plan in plans if (found := _crossing(plan, rows)) is not None)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """p of the best fit value ∝ size^p, by least squares of the logarithms."""
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(one) for one in values]).slope


def _growth(plan: GrowthPlan, rows: Mapping[str, BenchmarkRow]) -> Growth | None:
    measured = {size: rows[name] for size, name in plan.points.items() if name in rows}
    if len(measured) < 2:
        return None
    seconds = [row.seconds.median for row in measured.values()]
    flops = [row.flops for row in measured.values() if row.flops]
    return Growth(
        name=plan.name,
        axis=plan.axis,
        sizes=tuple(measured),
        seconds=tuple(seconds),
        exponent=exponent(list(measured), seconds),
        counted=exponent(list(measured), flops) if len(flops) == len(measured) else None,
    )


def _crossing(plan: CrossingPlan, rows: Mapping[str, BenchmarkRow]) -> Crossing | None:
    ratios = {
        size: rows[mine].seconds.median / rows[other].seconds.median
        for size, (mine, other) in plan.points.items()
        if mine in rows and other in rows
    }
    if not ratios:
        return None
    faster_from = None
    for size in sorted(ratios, reverse=True):
        if ratios[size] >= 1:
            break
        faster_from = size
    return Crossing(
        name=plan.name, other=plan.other, sizes=tuple(ratios), ratios=tuple(ratios.values()), first=faster_from
    )
