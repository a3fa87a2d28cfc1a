"""How long a step takes, of several models side by side on a machine whose load changes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from deep_delta.errors import ConfigError
from deep_delta.runs.record import Record


class StepTime(Record):
    """Seconds of one step, over the rounds."""

    median: float
    lower: float
    """first quartile"""
    upper: float
    """third quartile"""
    relative: float
    """median, over the rounds, of this step's time over the first step's time in the same round: 2 is half as fast"""


def interleave(
    steps: Mapping[str, Callable[[], None]],
    *,
    rounds: int,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, StepTime]:
    """Time every step once a round, so that a change of the machine's load meets all of them alike.

    Each round starts with another step. A step must wait for its device before it returns. `warmup` rounds are not
    counted. `ConfigError` for fewer than two rounds, which have no spread.
    """
    if rounds < 2:
        raise ConfigError(f"rounds must be at least 2, got {rounds}")
    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = clock()
            steps[name]()
            if turn >= warmup:
                seconds[name].append(clock() - started)
    reference = seconds[names[0]]
    return {name: _step_time(found, reference) for name, found in seconds.items()}


def _step_time(seconds: list[float], reference: list[float]) -> StepTime:
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    ratios = [mine / other for mine, other in zip(seconds, reference, strict=True)]
    return StepTime(median=median, lower=lower, upper=upper, relative=statistics.median(ratios))
