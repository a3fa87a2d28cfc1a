from __future__ import annotations

from collections.abc import Callable

import pytest

from deep_delta.benchmarks.timing import interleave
from deep_delta.errors import ConfigError


class Machine:
    """A clock that only steps move; its load grows from step to step."""

    def __init__(self) -> None:
        self.now = 0.0
        self.load = 1.0
        self.calls: list[str] = []

    def step(self, name: str, cost: float) -> Callable[[], None]:
        def run() -> None:
            self.calls.append(name)
            self.now += cost * self.load

        return run


def test_rounds_are_interleaved_and_begin_with_another_step_each():
    machine = Machine()
    interleave({n: machine.step(n, 1.0) for n in "abc"}, rounds=2, warmup=1, clock=lambda: machine.now)
    assert "".join(machine.calls) == "abc" + "bca" + "cab"


def test_the_numbers_are_the_median_the_quartiles_and_the_ratio_to_the_first():
    machine = Machine()
    times = interleave(
        {"a": machine.step("a", 2.0), "b": machine.step("b", 3.0)}, rounds=5, warmup=0, clock=lambda: machine.now
    )
    assert (times["a"].median, times["a"].relative) == (2.0, 1.0)
    assert (times["b"].lower, times["b"].median, times["b"].upper) == (3.0, 3.0, 3.0)
    assert times["b"].relative == 1.5


def test_warm_up_is_not_counted():
    machine = Machine()
    costs = iter([100.0, 100.0, 1.0, 1.0, 1.0])

    def step() -> None:
        machine.now += next(costs)

    assert interleave({"a": step}, rounds=3, warmup=2, clock=lambda: machine.now)["a"].upper == 1.0


def test_a_load_that_changes_between_rounds_leaves_the_ratio():
    machine = Machine()
    loads = iter([1.0, 5.0, 2.0])

    def first() -> None:
        machine.load = next(loads)
        machine.now += machine.load

    times = interleave({"a": first, "b": machine.step("b", 2.0)}, rounds=3, warmup=0, clock=lambda: machine.now)
    assert (times["a"].lower, times["a"].median, times["a"].upper) == (1.5, 2.0, 3.5)
    assert times["b"].relative == 2.0


def test_one_round_has_no_spread_and_is_refused():
    with pytest.raises(ConfigError, match="rounds must be at least 2, got 1"):
        interleave({"a": lambda: None}, rounds=1)
