"""Everything that a command line named, read on as it grows: experiments of pooled seeds, and results."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation.ranking import rank_runs
from deep_delta.explore.lenient import Unreadable, read_json, read_leniently
from deep_delta.explore.line import EMPTY, Axis, Line, decimate
from deep_delta.explore.sources import Result, find_sources
from deep_delta.explore.trace import Measure, Trace
from deep_delta.models.variants import VARIANTS
from deep_delta.runs.benchmark import Benchmark
from deep_delta.runs.comparison import Ranking, TrainingComparison
from deep_delta.runs.inspection import Inspection
from deep_delta.runs.layout import RunFolder
from deep_delta.runs.record import Record
from deep_delta.runs.suites import SuiteResults

RECORDS: Mapping[str, type[Record]] = {
    "benchmark": Benchmark,
    "inspection": Inspection,
    "suites": SuiteResults,
}


class Run:
    """One run folder, with one seed: its comparison as far as it can be read, and a trace of each variant."""

    def __init__(self, path: Path, only: Collection[str] = ()) -> None:
        """only: the variants that are wanted; all where none is named."""
        self.path, self.only = path, only
        self.comparison: TrainingComparison | None = None
        self.notice: str | None = None
        self.traces: list[Trace] = []
        self._modified: int | None = None
        self.refresh()

    def refresh(self) -> bool:
        """Read the comparison again where it has changed, and find variants that have begun; whether anything did."""
        file = RunFolder(self.path).comparison
        try:
            modified = file.stat().st_mtime_ns
        except OSError:
            modified = None
        changed = modified != self._modified
        if changed or self._modified is None:
            self._modified = modified
            self._read(file, exists=modified is not None)
        return self._find_traces() or changed

    def _read(self, file: Path, *, exists: bool) -> None:
        if not exists:
            self.comparison = None
            self.notice = f"{self.path} has no training_comparison.json; its event logs are shown"
            return
        try:
            self.comparison, self.notice = read_leniently(TrainingComparison, _pruned(read_json(file)), file)
        except Unreadable as problem:
            self.comparison, self.notice = None, f"{problem}; its event logs are shown"

    def _find_traces(self) -> bool:
        planned = {one.variant: one.model_dump() for one in self.comparison.runs} if self.comparison else {}
        known = {trace.slug: trace for trace in self.traces}
        on_disk = [folder.slug for folder in RunFolder(self.path).variants()] if self.path.is_dir() else []
        slugs = [slug for slug in {**planned, **dict.fromkeys(on_disk)} if not self.only or slug in self.only]
        for slug in slugs:
            if slug not in known:
                self.traces.append(Trace(self.path / slug, run=self.path.name, planned=planned.get(slug)))
        for trace in self.traces:
            trace.training = dict(self.comparison.training) if self.comparison else {}
        return len(self.traces) > len(known)


def _pruned(content: Any) -> Any:
    """A comparison without what the event logs have too, and which is most of it: curves and spectra."""
    runs = content.get("runs") if isinstance(content, dict) else None
    for run in runs if isinstance(runs, list) else ():
        if not isinstance(run, dict):
            continue
        run["curve"] = []
        for evaluation in run["evaluations"] if isinstance(run.get("evaluations"), list) else ():
            if isinstance(evaluation, dict):
                evaluation["spectra"] = []
    return content


class Variant(NamedTuple):
    """The seeds of one variant in one experiment."""

    label: str
    """the slug, with the experiment's name before it where there are several"""
    slug: str
    number: int
    """its place among all variants: for colour and mark"""
    traces: tuple[Trace, ...]

    def band(self, measure: Measure, axis: Axis = "step", points: int = 400) -> Line:
        """The mean over seeds, between their least and greatest; one seed's own line where there is one.

        Seeds that were measured at the same x are joined there; else each is taken by columns of the common range.
        """
        lines = [line for trace in self.traces if (line := trace.line(measure, axis)).size]
        if len(lines) < 2:
            return lines[0] if lines else EMPTY
        same = all(np.array_equal(line.x, lines[0].x) for line in lines)
        if not same or lines[0].size > points:
            first, last = min(line.x[0] for line in lines), max(line.x[-1] for line in lines)
            edges = np.linspace(first, last, min(points, max(line.size for line in lines)) + 1)
            lines = [decimate(line, edges) for line in lines]
        means = np.stack([line.mean for line in lines])
        there = np.isfinite(means)
        count = there.sum(0)
        mean = np.divide(np.where(there, means, 0).sum(0), count, out=np.full(len(count), np.nan), where=count > 0)
        low = np.where(there, np.stack([line.low for line in lines]), np.inf).min(0)
        high = np.where(there, np.stack([line.high for line in lines]), -np.inf).max(0)
        bad = np.any([line.bad for line in lines], axis=0)
        gap = np.any([line.gap for line in lines], axis=0)
        low, high = (np.where(count > 0, bound, np.nan) for bound in (low, high))
        band = Line(lines[0].x, lines[0].start, low, mean, high, bad, gap)
        kept = (count > 0) | bad
        return Line(*(column[kept] for column in band))


class Experiment(NamedTuple):
    """Runs that differ in their seed only."""

    name: str
    runs: tuple[Run, ...]
    variants: tuple[Variant, ...]
    ranking: Ranking | None
    """as `compare` ranks; None where `reason` says why"""
    reason: str | None

    @property
    def comparisons(self) -> list[TrainingComparison]:
        return [run.comparison for run in self.runs if run.comparison is not None]


class Saved(NamedTuple):
    """A result file, read."""

    path: Path
    record: Any
    """`Benchmark`, `SuiteResults` or `Inspection`"""


class Exploration:
    """What is looked at. `poll` reads on; nothing else touches the disk."""

    def __init__(self, runs: Sequence[Run], results: Sequence[Result], notices: Sequence[str]) -> None:
        self.runs = list(runs)
        self._notices = list(notices)
        self.benchmarks: list[Saved] = []
        self.suites: list[Saved] = []
        self.inspections: list[Saved] = []
        for result in results:
            self._add(result)
        self.experiments: list[Experiment] = []
        self._next = 0
        self._looked = 0.0
        self._group()

    def _add(self, result: Result) -> None:
        try:
            record, notice = read_leniently(RECORDS[result.kind], result.content, result.path)
        except Unreadable as problem:
            self._notices.append(str(problem))
            return
        if notice:
            self._notices.append(notice)
        {"benchmark": self.benchmarks, "suites": self.suites, "inspection": self.inspections}[result.kind].append(
            Saved(result.path, record)
        )

    @property
    def traces(self) -> list[Trace]:
        return [trace for run in self.runs for trace in run.traces]

    @property
    def variants(self) -> list[Variant]:
        return [variant for experiment in self.experiments for variant in experiment.variants]

    @property
    def behind(self) -> float:
        """Share of the logs' bytes that are not read yet; 0 when all is read."""
        total = sum(trace.journal.size for trace in self.traces)
        return sum(trace.journal.behind for trace in self.traces) / total if total else 0.0

    @property
    def notices(self) -> list[str]:
        """What is missing, torn, corrupt or of a newer version, a line each."""
        found = [*self._notices, *(run.notice for run in self.runs if run.notice)]
        return found + [line for trace in self.traces for line in trace.notices()]

    def poll(self, seconds: float = 0.05) -> bool:
        """Read what is new, for some `seconds` at most, every log in turn; whether anything changed."""
        until = time.perf_counter() + seconds
        changed = False
        if time.monotonic() - self._looked > 1:
            self._looked = time.monotonic()
            changed = any([run.refresh() for run in self.runs])  # noqa: C419 (every run is asked)
            if changed:
                self._group()
        traces = self.traces
        idle = 0
        while traces and idle < len(traces):
            trace = traces[self._next % len(traces)]
            self._next += 1
            moved = trace.poll()
            changed |= moved
            idle = 0 if moved and trace.journal.behind else idle + 1
            if time.perf_counter() > until:
                break
        return changed

    def read_all(self) -> Exploration:
        """Read until nothing is left, as a page does that is made once."""
        while self.poll(1.0) and self.behind:
            pass
        return self

    def require_content(self) -> Exploration:
        """`DataError` where there is nothing to show once all is read: no step, no evaluation, no result."""
        if self.benchmarks or self.suites or self.inspections or any(trace.measures() for trace in self.traces):
            return self
        raise DataError(f"{self.runs[0].path} has logged no step and no evaluation yet; {self.notices[0]}")

    def _group(self) -> None:
        """Experiments: runs with the same data, models and training but for the seed."""
        groups: dict[str, list[Run]] = {}
        for run in self.runs:
            groups.setdefault(_experiment_of(run), []).append(run)
        several = len(groups) > 1
        experiments = []
        number = 0
        for runs in groups.values():
            name = _name(runs)
            slugs = dict.fromkeys(trace.slug for run in runs for trace in run.traces)
            variants = []
            for slug in sorted(slugs, key=_order):
                traces = tuple(trace for run in runs for trace in run.traces if trace.slug == slug)
                variants.append(Variant(f"{name}/{slug}" if several else slug, slug, number, traces))
                number += 1
            ranking, reason = _rank(runs)
            experiments.append(Experiment(name, tuple(runs), tuple(variants), ranking, reason))
        self.experiments = experiments


def open_paths(paths: Sequence[str | Path]) -> Exploration:
    """Look at run folders and result files; reads no log yet (`poll`).

    `ConfigError` for a path that is not there, `CheckpointError` for a folder that is no run, `DataError` for a file
    that is no result, and where there is nothing at all to show.
    """
    if not paths:
        raise ConfigError("nothing to look at; give a run's folder")
    sources = find_sources([Path(path) for path in paths])
    runs = [Run(path, only) for path, only in sources.runs.items()]
    for run in runs:
        if not run.traces:
            raise DataError(f"{run.path} has no variant that has begun; start it with ddl train")
    exploration = Exploration(runs, sources.results, sources.notices)
    if not runs and not (exploration.benchmarks or exploration.suites or exploration.inspections):
        raise DataError(exploration.notices[0])
    return exploration


def _experiment_of(run: Run) -> str:
    """Equal for runs that differ in their seed only."""
    comparison = run.comparison
    if comparison is None:
        return str(run.path)
    training = sorted((name, value) for name, value in comparison.training.items() if name not in ("seed", "tracker"))
    models = {one.variant: sorted(one.model.items(), key=str) for one in comparison.runs}
    data = (comparison.data.sha256, comparison.data.tokenizer_sha256, comparison.data.layout)
    return repr((training, sorted(models.items()), data))


def _name(runs: Sequence[Run]) -> str:
    first = runs[0].path.resolve()
    return first.parent.name if len(runs) > 1 else first.name


def _order(slug: str) -> tuple[int, str]:
    return (VARIANTS.index(slug) if slug in VARIANTS else len(VARIANTS), slug)


def _rank(runs: Sequence[Run]) -> tuple[Ranking | None, str | None]:
    comparisons = [run.comparison for run in runs if run.comparison is not None]
    if len(comparisons) < len(runs):
        return None, "no ranking: a run has no training_comparison.json that can be read"
    try:
        return rank_runs(comparisons), None
    except (ConfigError, DataError) as error:
        return None, f"no ranking: {error}"
