"""How long a step takes, of several side by side on a machine whose load changes."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping

from deep_delta.errors import ConfigError
from deep_delta.runs.benchmark import StepTime

Clock = Callable[[], float]
_MOST_CALLS = 1000
_LEAST_ROUNDS = 3


def interleave(
    steps: Mapping[str, Callable[[], None]],
    *,
    rounds: int,
    warmup: int = 2,
    reference: str | None = None,
    least: float = 0.0,
    budget: float = math.inf,
    wait: Callable[[], None] = lambda: None,
    clock: Clock = time.perf_counter,
) -> dict[str, StepTime]:
    """Time every step once a round, so that a change of the machine's load meets all of them alike.

    Each round starts with another step. `ConfigError` for fewer than two rounds, which have no spread.

    Args:
        warmup: rounds that are not counted.
        reference: the step that the others are relative to; the first when unset.
        least: seconds; a step shorter than this in the last round of the warm-up is called several times a round, and
            the mean of the calls counts.
        budget: seconds; once they are spent the warm-up ends after its first round, and the rounds after the third.
        wait: returns when the device has done what it was given; called before the clock is read.
    """
    if rounds < 2:
        raise ConfigError(f"rounds must be at least 2, got {rounds}")
    names = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    calls = dict.fromkeys(names, 1)
    began = clock()
    for turn in range(warmup + rounds):
        if clock() - began > budget:
            if 0 < turn < warmup:
                continue
            if turn >= warmup + _LEAST_ROUNDS:
                break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = clock()
            for _ in range(calls[name]):
                steps[name]()
            wait()
            took = (clock() - started) / calls[name]
            if turn >= warmup:
                seconds[name].append(took)
            elif turn == warmup - 1 and took < least:
                calls[name] = min(math.ceil(least / took), _MOST_CALLS) if took > 0 else _MOST_CALLS
    against = seconds[names[0] if reference is None else reference]
    return {name: _step_time(found, against) for name, found in seconds.items()}


def _step_time(seconds: list[float], reference: list[float]) -> StepTime:
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    ratios = [mine / other for mine, other in zip(seconds, reference, strict=True)]
    relative_lower, relative, relative_upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return StepTime(
        median=median,
        lower=lower,
        upper=upper,
        relative=relative,
        relative_lower=relative_lower,
        relative_upper=relative_upper,
        rounds=len(seconds),
    )
