"""From a plan to rows: check, wait for quiet, time in turns, check again that it was quiet, measure memory."""

from __future__ import annotations

import gc
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TypeVar

import torch

from deep_delta.benchmarks.case import Case, Group, Plan, Setting, Workload
from deep_delta.benchmarks.ceilings import measure_ceilings
from deep_delta.benchmarks.correctness import Judgement, gradients, judge_case, upstream_of
from deep_delta.benchmarks.fits import crossings, growths
from deep_delta.benchmarks.load import LoadMeter
from deep_delta.benchmarks.machine import capabilities, waiter
from deep_delta.benchmarks.memory import peak_bytes, saved_bytes
from deep_delta.benchmarks.timing import Clock, interleave
from deep_delta.errors import ConfigError
from deep_delta.models.modes import usual_defaults
from deep_delta.runs.benchmark import Benchmark, BenchmarkRow, Ceiling, Phase, StepTime, Unmeasured
from deep_delta.runs.clock import now
from deep_delta.training.memory import keep_freed_memory
from deep_delta.training.provenance import origin

_ATTEMPTS = 3  # to be left alone for as long as a measurement takes
_SLOW = 5.0  # seconds of one run beyond which its memory is not looked at
_EXTRAS = ("triton", "transformers", "flash-linear-attention")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Effort:
    """How long a row may take."""

    rounds: int = 15
    least: float = 0.01
    """seconds; shorter runs are repeated within a round"""
    budget: float = 60.0
    """seconds for the rounds of a group's phase"""


@dataclass(frozen=True)
class Runner:
    """Measures plans. `report` is told (done, in all, what comes next)."""

    setting: Setting
    effort: Effort = field(default_factory=Effort)
    meter: LoadMeter = field(default_factory=LoadMeter)
    allow_load: bool = False
    """report rows that were measured under load, marked, instead of refusing them"""
    report: Callable[[int, int, str], None] = lambda done, total, what: None
    clock: Clock = time.perf_counter

    def measure(self, plan: Plan) -> Benchmark:
        """Every row of the plan, or the reason why there is none."""
        ceilings, unmeasured = self._ceilings(plan)
        rows: list[BenchmarkRow] = []
        unmeasured += [Unmeasured(name=name, reason=why, kind="skipped") for name, why in plan.skipped.items()]
        for done, group in enumerate(sorted(plan.groups, key=lambda group: group.keeps_memory)):
            if group.keeps_memory:  # for the rest of the process
                keep_freed_memory()
            self.report(done, len(plan.groups), group.cases[0].name)
            found, missing = self._group(group)
            rows += found
            unmeasured += missing
        self.report(len(plan.groups), len(plan.groups), "")
        sound = {row.name: row for row in rows if not row.loaded}
        made = origin(self.setting.device)
        return Benchmark(
            origin=made.model_copy(update={"versions": {**made.versions, **_extras()}}),
            date=now(),
            capabilities=capabilities(self.setting.device),
            load=str(self.meter),
            quick=self.setting.quick,
            rows=tuple(rows),
            ceilings=tuple(ceilings),
            unmeasured=tuple(unmeasured),
            growth=growths(plan.growth, sound),
            crossings=crossings(plan.crossings, sound),
        )

    def _ceilings(self, plan: Plan) -> tuple[list[Ceiling], list[Unmeasured]]:
        found: list[Ceiling] = []
        missing: list[Unmeasured] = []
        for precision in dict.fromkeys(case.precision for group in plan.groups for case in group.cases):
            self.report(0, len(plan.groups), f"the machine's own speed in {precision}")
            measured, problem = self._quietly(partial(measure_ceilings, precision, self.setting.device))
            if measured is None:
                missing.append(Unmeasured(name=f"ceilings/{precision}", reason=str(problem), kind="loaded"))
            else:
                found += measured
        return found, missing

    def _group(self, group: Group) -> tuple[list[BenchmarkRow], list[Unmeasured]]:
        missing: list[Unmeasured] = []
        ready: dict[str, tuple[Case, Workload, Judgement]] = {}
        for case in group.cases:
            if reason := case.unavailable(self.setting.device):
                missing.append(Unmeasured(name=case.name, reason=reason, kind="skipped"))
                continue
            judged = self._check(case)
            if isinstance(judged, str):
                missing.append(Unmeasured(name=case.name, reason=judged, kind="wrong"))
                continue
            with usual_defaults():
                ready[case.name] = case, case.build(self.setting.device), judged
        rows: list[BenchmarkRow] = []
        for phase in dict.fromkeys(phase for case, _, _ in ready.values() for phase in case.phases):
            runs = {name: _runner(each[1], phase) for name, each in ready.items() if phase in each[0].phases}
            reference = group.relative_to if group.relative_to in runs else None
            times, problem = self._quietly(lambda runs=runs, reference=reference: self._time(runs, reference))  # type: ignore[misc]
            for name, run in runs.items():
                case, workload, judged = ready[name]
                if times is None:
                    missing.append(Unmeasured(name=case.row(phase), reason=str(problem), kind="loaded"))
                    continue
                row = self._row(case, phase, times[name], judged, reference, loaded=problem is not None)
                rows.append(self._with_memory(row, workload, run) if times[name].median < _SLOW else row)
        return rows, missing

    def _check(self, case: Case) -> Judgement | str:
        """How far the case is from right; where that is too far, or it fails, what is wrong with it."""
        try:
            with usual_defaults():
                judged = judge_case(case, self.setting.device)
        except RuntimeError as problem:
            return f"wrong: it fails with {type(problem).__name__}: {str(problem).strip().splitlines()[0]}"
        return judged if judged.is_right else f"wrong: {judged}"

    def _time(self, runs: Mapping[str, Callable[[], None]], reference: str | None) -> dict[str, StepTime]:
        gc.collect()
        gc.disable()
        try:
            return interleave(
                runs,
                rounds=self.effort.rounds,
                reference=reference,
                least=self.effort.least,
                budget=self.effort.budget,
                wait=waiter(self.setting.device),
                clock=self.clock,
            )
        finally:
            gc.enable()

    def _quietly(self, take: Callable[[], Found]) -> tuple[Found | None, str | None]:
        """What `take` measures while nothing else loads the machine; None, and why, when it never was quiet.

        With `allow_load` it measures once, without waiting, and says what was wrong.
        """
        problem = None
        for _ in range(1 if self.allow_load else _ATTEMPTS):
            if not self.allow_load and (problem := self.meter.wait_for_quiet()):
                break
            started = self.meter.read()
            found = take()
            problem = self.meter.problem_since(started)
            if problem is None or self.allow_load:
                return found, problem
        return None, problem

    def _row(
        self, case: Case, phase: Phase, times: StepTime, judged: Judgement, reference: str | None, *, loaded: bool
    ) -> BenchmarkRow:
        return BenchmarkRow(
            name=case.row(phase),
            suite=case.suite,
            phase=phase,
            precision=case.precision,
            seconds=times,
            relative_to=None if reference is None else f"{reference}/{phase}",
            error=judged.error,
            tolerance=judged.allowed,
            tokens=case.tokens,
            flops=case.counted.flops_of(phase),
            bytes_moved=case.counted.bytes_of(phase),
            loaded=loaded,
        )

    def _with_memory(self, row: BenchmarkRow, workload: Workload, run: Callable[[], None]) -> BenchmarkRow:
        peak = peak_bytes(run, self.setting.device)
        saved = saved_bytes(workload.forward, workload.parameters) if row.phase == "forward_backward" else None
        return row.model_copy(update={"peak_bytes": peak, "saved_bytes": saved})


def select(plan: Plan, only: str) -> Plan:
    """The part of the plan whose rows match a glob; `ConfigError` when none does."""
    groups = []
    for group in plan.groups:
        cases = [
            replace(case, phases=phases)
            for case in group.cases
            if (phases := tuple(phase for phase in case.phases if fnmatchcase(case.row(phase), only)))
        ]
        if cases:
            groups.append(replace(group, cases=tuple(cases)))
    if not groups:
        known = [case.row(phase) for group in plan.groups for case in group.cases for phase in case.phases]
        example = f"; rows are named like {known[0]}" if known else ""
        raise ConfigError(f"--only {only!r} matches no row{example}")
    return replace(plan, groups=tuple(groups))


def merge(plans: Sequence[Plan]) -> Plan:
    """Several suites as one."""
    return Plan(
        tuple(group for plan in plans for group in plan.groups),
        tuple(growth for plan in plans for growth in plan.growth),
        tuple(crossing for plan in plans for crossing in plan.crossings),
        {name: why for plan in plans for name, why in plan.skipped.items()},
    )


def _runner(workload: Workload, phase: Phase) -> Callable[[], None]:
    """One run of a phase."""
    if phase == "step":
        assert workload.step is not None
        return workload.step
    if phase == "forward":

        def forward() -> None:
            with torch.no_grad():
                workload.forward()

        return forward
    upstream = upstream_of(workload.forward())

    def forward_backward() -> None:
        gradients(workload, workload.forward(), upstream)

    return forward_backward


def _extras() -> dict[str, str]:
    """Versions of the packages that some rows come from, where they are installed."""
    installed = {}
    for name in _EXTRAS:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
