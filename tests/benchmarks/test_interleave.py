from __future__ import annotations

import pytest

from deep_delta.benchmarks.timing import interleave
from deep_delta.errors import ConfigError


def test_rounds_are_interleaved_and_begin_with_another_step_each(machine):
    interleave({n: machine.step(n, 1.0) for n in "abc"}, rounds=2, warmup=1, clock=machine.clock)
    assert "".join(machine.calls) == "abc" + "bca" + "cab"


def test_the_numbers_are_the_median_the_quartiles_and_the_ratio_to_the_first(machine):
    times = interleave(
        {"a": machine.step("a", 2.0), "b": machine.step("b", 3.0)}, rounds=5, warmup=0, clock=machine.clock
    )
    assert (times["a"].median, times["a"].relative) == (2.0, 1.0)
    assert (times["b"].lower, times["b"].median, times["b"].upper) == (3.0, 3.0, 3.0)
    assert times["b"].relative == 1.5


def test_warm_up_is_not_counted(machine):
    costs = iter([100.0, 100.0, 1.0, 1.0, 1.0])

    def step() -> None:
        machine.now += next(costs)

    assert interleave({"a": step}, rounds=3, warmup=2, clock=machine.clock)["a"].upper == 1.0


def test_a_load_that_changes_between_rounds_leaves_the_ratio(machine):
    loads = iter([1.0, 5.0, 2.0])

    def first() -> None:
        machine.load = next(loads)
        machine.now += machine.load

    times = interleave({"a": first, "b": machine.step("b", 2.0)}, rounds=3, warmup=0, clock=machine.clock)
    assert (times["a"].lower, times["a"].median, times["a"].upper) == (1.5, 2.0, 3.5)
    assert times["b"].relative == 2.0


def test_one_round_has_no_spread_and_is_refused():
    with pytest.raises(ConfigError, match="rounds must be at least 2, got 1"):
        interleave({"a": lambda: None}, rounds=1)


def test_ratios_are_to_the_step_that_is_named(machine):
    steps = {"a": machine.step("a", 2.0), "b": machine.step("b", 4.0)}
    times = interleave(steps, rounds=3, reference="b", clock=machine.clock)
    assert (times["a"].relative, times["b"].relative) == (0.5, 1.0)
    assert times["a"].relative_lower <= times["a"].relative <= times["a"].relative_upper


def test_a_short_step_is_called_several_times_a_round_and_its_mean_counts(machine):
    steps = {"short": machine.step("short", 0.25), "long": machine.step("long", 5.0)}
    times = interleave(steps, rounds=2, warmup=1, least=1.0, clock=machine.clock)
    assert machine.calls.count("short") == 1 + 2 * 4
    assert machine.calls.count("long") == 1 + 2
    assert (times["short"].median, times["short"].relative) == (0.25, 1.0)


def test_a_budget_ends_the_warm_up_after_one_round_and_the_rounds_after_three(machine):
    times = interleave({"a": machine.step("a", 10.0)}, rounds=50, warmup=5, budget=1.0, clock=machine.clock)
    assert len(machine.calls) == 1 + 3
    assert times["a"].rounds == 3
    within = interleave({"a": machine.step("a", 10.0)}, rounds=4, warmup=1, budget=1e9, clock=machine.clock)
    assert within["a"].rounds == 4


def test_the_clock_is_read_after_the_device_has_finished(machine):
    times = interleave({"a": lambda: None}, rounds=2, wait=machine.step("wait", 3.0), clock=machine.clock)
    assert times["a"].median == 3.0
