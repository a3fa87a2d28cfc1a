"""A whole evaluation: every suite that is asked for, on every model that it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from deep_delta.data.language.pairs import NUM_PAIRS
from deep_delta.errors import DataError
from deep_delta.evaluation.seeds import Trained, rank_over_seeds
from deep_delta.evaluation.suites.examinee import Examinee
from deep_delta.evaluation.suites.harness import run_tasks
from deep_delta.evaluation.suites.language import language_rows
from deep_delta.evaluation.suites.logic import logic_rows, task_of
from deep_delta.evaluation.suites.names import chosen
from deep_delta.evaluation.suites.pairing import RULE, Asked, compare_answers, compared
from deep_delta.runs.clock import now
from deep_delta.runs.comparison import Origin
from deep_delta.runs.suites import SuiteResults, SuiteRow

SEQUENCES = 256
WRONG = "wrong answers, all families together"


def evaluate_suites(
    examinees: Sequence[Examinee],
    origin: Origin,
    *,
    names: Sequence[str] = ("all",),
    pairs: int = NUM_PAIRS,
    sequences: int = SEQUENCES,
    told: Callable[[str], None] = lambda name: None,
) -> SuiteResults:
    """Ask every model what fits it: language where it was trained on text, logic where it was trained on a task.

    `DataError` where nothing that was asked for fits any of them, `ConfigError` for an unknown name.
    """
    phenomena, tasks = chosen(names)
    readers = [examinee for examinee in examinees if task_of(examinee) is None]
    solvers = [examinee for examinee in examinees if task_of(examinee) in tasks]
    rows: list[SuiteRow] = []
    asked: list[Asked] = []
    if phenomena and readers:
        rows, asked = language_rows(readers, phenomena, pairs, told=told)
    if solvers:
        found, more = logic_rows(solvers, sequences, told=told)
        rows, asked = rows + found, asked + more
    if not rows:
        known = ", ".join(dict.fromkeys(f"synth:{task_of(examinee)}" for examinee in examinees if task_of(examinee)))
        on = known if known and not readers else "text, and not on a task; train one with --data synth:…"
        raise DataError(f"nothing to evaluate: the models were trained on {on}")
    comparisons = compare_answers(asked, compared([examinee.about for examinee in examinees]))
    ranking, unranked = rank_over_seeds(list(_wrong(examinees, rows)), WRONG)
    return SuiteResults(
        date=now(),
        origin=origin,
        models=tuple(examinee.about for examinee in examinees),
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        rule=RULE if comparisons else "",
        ranking=ranking,
        unranked=unranked,
    )


def evaluate_tasks(
    examinees: Sequence[Examinee],
    origin: Origin,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    limit: int | None = None,
) -> SuiteResults:
    """Ask every model tasks of lm-evaluation-harness; see `harness.run_tasks`, which raises the same errors."""
    found = run_tasks(examinees, tasks, include=include, limit=limit)
    models = tuple(examinee.about for examinee in examinees)
    return SuiteResults(date=now(), origin=origin, models=models, rows=(), harness=tuple(found))


def _wrong(examinees: Sequence[Examinee], rows: Sequence[SuiteRow]) -> Iterator[tuple[Trained, float]]:
    """Each model's share of wrong answers in the linguistic suite."""
    for examinee in examinees:
        mine = [row for row in rows if row.model == examinee.name and row.score is not None and row.suite == "language"]
        pooled = [row for row in mine if row.family == "all"]
        count = sum(row.count for row in pooled)
        if count and examinee.trained is not None:
            yield examinee.trained, 1 - sum((row.score or 0) * row.count for row in pooled) / count
