"""`ddl benchmark`: what the parts of the project cost on this machine, and whether that has become worse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from deep_delta.benchmarks.gate import KINDS, Verdict, judge, require_same_machine
from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser, number, whole
from deep_delta.cli.settings import comma_list
from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import ConfigError, GateError
from deep_delta.runs.benchmark import SUITES, Benchmark, BenchmarkRow, Precision
from deep_delta.runs.storage import atomic_write

if TYPE_CHECKING:
    from deep_delta.benchmarks.case import Plan, Setting

_DESCRIPTION = """
Measure what the parts cost on this machine. Every row is held against its definition in fp64 first, outputs and
gradients; a wrong one is never timed. Rows that are to be compared are timed in turns, round by round, so that a change
of the machine's load meets all alike: read the ratios first. A row that was measured while something else loaded the
machine is refused. Models, blocks and growth are measured as training runs, which keeps the memory that it frees; all
else with the system's own allocator. Beside the rows stand the machine's own limits (a matrix product, a copy),
measured in the same run, and the bars that the project holds itself to. With --baseline, a row that is slower or larger
than a saved one, beyond the tolerance and the spread of both, exits 1.
"""

_EXAMPLES = """
  ddl benchmark                           the variants against the baseline
  ddl benchmark --suite all --quick       a look at everything, about a minute
  ddl benchmark --suite operator,normalization --save before.json
  ddl benchmark --suite operator,normalization --baseline before.json
  ddl benchmark --baseline there.json --any-device --gate ratio
  ddl benchmark --suite operator --only '*/delta_update/fused/*' --threads 1
"""

_ROUNDS = (2, 10_000)
Name = TypeVar("Name", bound=str)


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    suites = _suites(options.suite)
    kinds = _names(options.gate, KINDS, "--gate")
    _check(options)
    before = Benchmark.read(Path(options.baseline)) if options.baseline else None

    import torch

    from deep_delta.benchmarks.runner import merge, select
    from deep_delta.benchmarks.suites import PLANS
    from deep_delta.cli.benchmark_tables import show_benchmark
    from deep_delta.training.provenance import hardware

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    setting = _setting(options)
    if before is not None and not options.any_device:
        require_same_machine(before, hardware(setting.device), options.baseline)
    plan = merge([PLANS[suite](setting) for suite in suites])
    if options.only is not None:
        plan = select(plan, options.only)
    found = _measure(plan, setting, options)
    if options.save and found.rows:
        atomic_write(Path(options.save), found.to_json())
    show_benchmark(found)
    wrong = [f"{one.name}: {one.reason}" for one in found.unmeasured if one.kind == "wrong"]
    if wrong:
        more = f" (and {len(wrong) - 1} more above)" if len(wrong) > 1 else ""
        raise GateError(f"{wrong[0]}{more}; a wrong row is not timed")
    refused = [one for one in found.unmeasured if one.kind == "loaded"]
    if refused and not found.rows:
        raise GateError(f"nothing was measured: {refused[0].reason}; wait until the machine is quiet, or --allow-load")
    if before is not None:
        _gate(judge(found, before, tolerance=options.tolerance, kinds=kinds, covers=_covers(options, suites, plan)))


def _parser() -> Parser:
    parser = Parser("benchmark [options]", _DESCRIPTION, _EXAMPLES)
    what = parser.add_argument_group("what is measured")
    suites = "; ".join(f"{name}: {summary}" for name, summary in SUITES.items())
    what.add_argument("--suite", default="model", metavar="NAMES", help=f"all, or some of these [model]. {suites}")
    what.add_argument("--only", metavar="GLOB", help="rows whose names match, as '*/fused/fp32/*'")
    what.add_argument("--quick", action="store_true", help="fewer rows and rounds, and no training step")
    what.add_argument("--compile", action="store_true", help="models and blocks under torch.compile too")
    what.add_argument(
        "--precision",
        choices=("auto", *get_args(Precision)),
        default="auto",
        help="auto: both; models in bf16 only where the processor computes in it [auto]",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--rounds", type=whole, metavar="INT", help="at most, as many as fit a minute for each group [15; quick 5]"
    )
    how.add_argument("--threads", type=whole, metavar="INT", help="of PyTorch on a CPU [PyTorch's choice]")
    how.add_argument(
        "--allow-load", action="store_true", help="report rows of a loaded machine, marked; they pass no gate"
    )
    gate = parser.add_argument_group("saving and comparing")
    gate.add_argument("--save", metavar="FILE", help="write everything as JSON")
    gate.add_argument("--baseline", metavar="FILE", help="a saved benchmark: exit 1 where a row has become worse")
    gate.add_argument("--tolerance", type=number, default=0.15, metavar="FLOAT", help="0.15 allows 15%% more [0.15]")
    gate.add_argument(
        "--gate", default=",".join(KINDS), metavar="NAMES", help=f"what may not become worse [{','.join(KINDS)}]"
    )
    gate.add_argument(
        "--any-device", action="store_true", help="compare with another machine's baseline (--gate ratio means most)"
    )
    parser.add_device()
    return parser


def _check(options: argparse.Namespace) -> None:
    """What can be refused before anything is loaded."""
    if options.rounds is not None and not _ROUNDS[0] <= options.rounds <= _ROUNDS[1]:
        raise ConfigError(f"--rounds must be from {_ROUNDS[0]} to {_ROUNDS[1]}, got {options.rounds}")
    if options.threads is not None and not 1 <= options.threads <= 1024:
        raise ConfigError(f"--threads must be from 1 to 1024, got {options.threads}")
    if not 0 < options.tolerance <= 10:
        raise ConfigError(f"--tolerance must be above 0 and at most 10, got {options.tolerance}")
    if options.save and not Path(options.save).absolute().parent.is_dir():
        raise ConfigError(f"--save {options.save}: there is no folder {Path(options.save).parent}")
    if options.save and options.baseline and Path(options.save).resolve() == Path(options.baseline).resolve():
        raise ConfigError("--save and --baseline name the same file; a regression would become its own baseline")


def _suites(text: str) -> list[str]:
    return list(SUITES) if text == "all" else _names(text, tuple(SUITES), "--suite")


def _names(text: str, known: Sequence[Name], option: str) -> list[Name]:
    """A comma list of known names, each once."""
    asked = comma_list(text)
    for name in asked:
        if name not in known:
            raise ConfigError(f"{option}: unknown {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    return [name for name in known if name in asked]


def _setting(options: argparse.Namespace) -> Setting:
    from deep_delta.benchmarks.case import Setting
    from deep_delta.benchmarks.machine import why_no_bf16

    device = resolve_device(options.device, trains=False)
    if device.type == "mps":
        raise ConfigError("every row is checked in fp64, which mps has not; use --device cpu")
    precisions: tuple[Precision, ...] = get_args(Precision) if options.precision == "auto" else (options.precision,)
    reason = why_no_bf16(device) if options.precision == "auto" else None
    return Setting(
        device,
        precisions,
        compile=options.compile,
        quick=options.quick,
        skipped={} if reason is None else {"bf16": reason},
    )


def _measure(plan: Plan, setting: Setting, options: argparse.Namespace) -> Benchmark:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from deep_delta.benchmarks.runner import Effort, Runner
    from deep_delta.cli.console import notes

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def report(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        effort = Effort(budget=3.0) if options.quick else Effort()
        effort = replace(effort, rounds=options.rounds or (5 if options.quick else effort.rounds))
        return Runner(setting, effort, allow_load=options.allow_load, report=report).measure(plan)


def _covers(options: argparse.Namespace, suites: Sequence[str], plan: Plan) -> Callable[[BenchmarkRow], bool]:
    """Whether the options ask for a saved row. A quick run covers what it has, and answers for nothing else."""
    planned = {case.row(phase) for group in plan.groups for case in group.cases for phase in case.phases}

    def covers(row: BenchmarkRow) -> bool:
        asked = row.suite in suites and options.precision in ("auto", row.precision)
        asked = asked and (options.compile or "/compiled/" not in row.name)
        asked = asked and (options.only is None or fnmatchcase(row.name, options.only))
        return asked and (not options.quick or row.name in planned)

    return covers


def _gate(verdict: Verdict) -> None:
    from deep_delta.cli.benchmark_tables import change_text, show_verdict

    show_verdict(verdict)
    if verdict.regressions:
        worst = "; ".join(map(change_text, verdict.regressions[:3]))
        more = f"; and {len(verdict.regressions) - 3} more" if len(verdict.regressions) > 3 else ""
        raise GateError(f"worse than the baseline: {worst}{more}")
    if verdict.missing:
        name, reason = next(iter(verdict.missing.items()))
        more = f"; and {len(verdict.missing) - 1} more rows" if len(verdict.missing) > 1 else ""
        raise GateError(f"not compared with the baseline: {name}: {reason}{more}")
