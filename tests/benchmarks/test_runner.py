"""Planted slowness, wrongness and load, on a machine whose clock only the cases move."""

from __future__ import annotations

import pytest
import torch

from deep_delta.benchmarks import runner
from deep_delta.benchmarks.case import Case, Counted, CrossingPlan, Group, GrowthPlan, Plan, Setting, op_workload
from deep_delta.benchmarks.runner import Effort, Runner, merge, select
from deep_delta.errors import ConfigError
from tests.benchmarks.conftest import BLIND, CPU

SETTING = Setting(CPU, ("fp32",))
EFFORT = Effort(rounds=3, least=0.0)


@pytest.fixture(autouse=True)
def no_ceilings(monkeypatch):
    monkeypatch.setattr(runner, "measure_ceilings", lambda precision, device: [])


class Loaded(type(BLIND)):
    """Finds the machine loaded when it is told to: by turns before, and after, each measurement."""

    def __init__(self, before=(), after=()):
        super().__init__(stat=BLIND.stat)
        object.__setattr__(self, "answers", {"before": list(before), "after": list(after)})

    def wait_for_quiet(self):
        return self._next("before")

    def problem_since(self, before):
        return self._next("after")

    def _next(self, when):
        answers = self.answers[when]
        return "a planted load" if answers and answers.pop(0) else None


@pytest.fixture
def case(machine):
    """A case that doubles its input, takes `cost` seconds, and may be off by something."""

    def make(name, cost=1.0, *, off=0.0, **fields):
        def run(x):
            machine.now += cost
            return 2 * x + off

        fixed = {"tolerance": 1e-5, "tokens": 10, "counted": Counted(flops=100, training_flops=300)}
        return Case(
            f"operator/{name}/fp32/S3",
            "fp32",
            lambda device: op_workload(run, lambda x: 2 * x, {"x": torch.ones(3)}),
            **{**fixed, **fields},
        )

    return make


def measure(machine, *cases, meter=BLIND, relative_to=None, setting=SETTING, **fields):
    plan = Plan((Group(cases, relative_to),))
    return Runner(setting, EFFORT, meter=meter, clock=machine.clock, **fields).measure(plan)


def test_every_phase_of_a_case_is_a_row_with_its_rates(machine, case):
    found = measure(machine, case("a", 2.0), case("b", 4.0), relative_to="operator/a/fp32/S3")
    assert [row.name for row in found.rows] == [
        f"operator/{name}/fp32/S3/{phase}" for phase in ("forward", "forward_backward") for name in "ab"
    ]
    forward, both = found.rows[1], found.rows[3]
    assert (forward.seconds.median, forward.seconds.relative, forward.seconds.rounds) == (4.0, 2.0, 3)
    assert (forward.relative_to, both.relative_to) == (f"{found.rows[0].name}", f"{found.rows[2].name}")
    assert (forward.tokens_per_second, forward.flops_per_second, both.flops_per_second) == (2.5, 25.0, 75.0)
    assert forward.error < 1e-6
    assert forward.saved_bytes is None
    assert both.saved_bytes == 0  # doubling keeps nothing
    assert 12 <= forward.peak_bytes < 1000
    assert (found.unmeasured, found.load) == ((), "not checked: there is no /there/is/no/stat here")


def test_a_wrong_case_is_named_and_never_timed(machine, case):
    found = measure(machine, case("right"), case("wrong", off=2e-2))
    assert {row.name.split("/")[1] for row in found.rows} == {"right"}
    (wrong,) = found.unmeasured
    assert (wrong.name, wrong.kind) == ("operator/wrong/fp32/S3", "wrong")
    assert wrong.reason == "wrong: the output is off by 1.0e-02 of its size, 1e-05 is allowed"
    assert machine.now < 1 + 2 * (1 + 3 + 2) + 10  # one call of the wrong one, to see that it is


def test_a_case_that_fails_is_wrong_and_the_others_are_measured(machine, case):
    def fail(device):
        raise RuntimeError("no such kernel\nand much more")

    found = measure(machine, case("a"), case("b", build_checked=fail))
    assert len(found.rows) == 2
    assert [(one.kind, one.reason) for one in found.unmeasured] == [
        ("wrong", "wrong: it fails with RuntimeError: no such kernel")
    ]


def test_what_cannot_run_is_skipped_with_the_reason_and_not_built(machine, case):
    found = measure(machine, case("here"), case("absent", unavailable=lambda device: f"needs more than a {device}"))
    assert [(one.name, one.reason, one.kind) for one in found.unmeasured] == [
        ("operator/absent/fp32/S3", "needs more than a cpu", "skipped")
    ]


def test_a_smaller_twin_is_checked_where_fp64_takes_too_long(machine, case):
    twin = case("a", off=1.0).build
    assert [one.kind for one in measure(machine, case("a", build_checked=twin)).unmeasured] == ["wrong"]


def test_a_loaded_machine_refuses_the_rows_with_the_reason(machine, case):
    found = measure(machine, case("a", phases=("forward",)), meter=Loaded(before=[False, True]))
    assert found.rows == ()
    assert [(one.name, one.kind, one.reason) for one in found.unmeasured] == [
        ("operator/a/fp32/S3/forward", "loaded", "a planted load")
    ]


@pytest.mark.parametrize(("after", "rows"), [([0, 1, 1, 0], 1), ([0, 1, 1, 1], 0)], ids=["passes", "stays"])
def test_a_measurement_that_was_disturbed_is_made_again(after, rows, machine, case):
    found = measure(machine, case("a", phases=("forward",)), meter=Loaded(after=after))
    assert len(found.rows) == rows
    assert [one.kind for one in found.unmeasured] == ["loaded"] * (1 - rows)


def test_rows_of_a_loaded_machine_are_marked_where_they_are_allowed(machine, case):
    meter = Loaded(before=[1, 1], after=[0, 1, 0])
    found = measure(machine, case("a"), meter=meter, allow_load=True)
    assert [one.loaded for one in found.rows] == [True, False]
    assert found.unmeasured == ()


def test_loaded_ceilings_are_refused_too(machine, case):
    found = measure(machine, case("a"), meter=Loaded(before=[True]))
    assert [(one.name, one.kind) for one in found.unmeasured] == [("ceilings/fp32", "loaded")]
    assert len(found.rows) == 2


def test_growth_and_crossings_come_from_the_rows(machine, case):
    cases = [case(f"T{size}", float(size), phases=("forward",)) for size in (1, 2, 4)]
    rows = {size: one.row("forward") for size, one in zip((1, 2, 4), cases, strict=True)}
    plan = Plan(
        tuple(Group((one,)) for one in cases),
        growth=(GrowthPlan("g", "T", rows),),
        crossings=(CrossingPlan("x", "y", {2: (rows[1], rows[2]), 4: (rows[1], rows[4])}),),
        skipped={"operator/other": "not here"},
    )
    told = []
    found = Runner(SETTING, EFFORT, meter=BLIND, clock=machine.clock, report=lambda *said: told.append(said)).measure(
        plan
    )
    assert found.growth[0].exponent == pytest.approx(1.0)
    assert (found.crossings[0].first, found.crossings[0].ratios) == (2, (0.5, 0.25))
    assert [one.name for one in found.unmeasured] == ["operator/other"]
    assert told[-1][:2] == (3, 3)


def test_a_glob_selects_rows_and_an_empty_selection_says_what_there_is(case):
    plan = Plan((Group((case("a"), case("b"))), Group((case("c"),))))
    chosen = select(plan, "*/b/*/forward")
    assert [(one.name, one.phases) for group in chosen.groups for one in group.cases] == [
        ("operator/b/fp32/S3", ("forward",))
    ]
    with pytest.raises(ConfigError, match=r"'z\*' matches no row; rows are named like operator/a/fp32/S3/forward"):
        select(plan, "z*")


def test_suites_add_up(case):
    one = Plan((Group((case("a"),)),), skipped={"x": "1"})
    two = Plan((Group((case("b"),)),), growth=(GrowthPlan("g", "T", {}),), skipped={"y": "2"})
    both = merge([one, two])
    assert (len(both.groups), len(both.growth), dict(both.skipped)) == (2, 1, {"x": "1", "y": "2"})


@pytest.mark.usefixtures("others_defaults")
def test_a_program_s_own_defaults_change_no_case(machine, case):
    found = measure(machine, case("a"))
    assert [row.name.rsplit("/", 1)[1] for row in found.rows] == ["forward", "forward_backward"]
    assert all(row.saved_bytes in (None, 0) for row in found.rows)
