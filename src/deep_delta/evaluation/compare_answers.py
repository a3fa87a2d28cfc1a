"""Saved models on one task: ranked by their wrong answers at the test lengths."""

# N sequences

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from deep_delta.data.synthetic.task import Task
from deep_delta.data.synthetic.task_data import HELD_OUT_SEED
from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation.accuracy import Answers, measure_accuracy, require_room, score_answers
from deep_delta.evaluation.compare import Candidate
from deep_delta.evaluation.flops import flops_per_token
from deep_delta.evaluation.ranking import rank_pieces
from deep_delta.evaluation.seeds import Trained, rank_over_seeds
from deep_delta.evaluation.snapshot import snapshot
from deep_delta.runs.comparison import Accuracy, Ranking
from deep_delta.runs.record import Record

WRONG_ANSWERS = "share of wrong answers at the test lengths"
_PROBE = 8
"""Sequences whose gates are looked at."""


class AnswersRow(Record):
    """One model's result."""

    name: str
    variant: str
    step: int
    parameters: int
    flops_per_token: int
    """of the forward pass, at the longest test length"""
    loss: float
    """nats per answer, over the task's training lengths"""
    accuracies: tuple[Accuracy, ...]
    """over the task's training lengths, then at each test length"""
    spectra: tuple[dict[str, Any], ...]
    """one `deep_delta.spectral` record per sublayer; empty for a model without gates"""


class AnswersComparison(Record):
    """Models on the same sequences of a task."""

    format_version: Literal[1] = 1
    data: str
    """the task with all its options"""
    data_sha256: str
    chance: float
    """share of the answers that a guess gets right"""
    rows: tuple[AnswersRow, ...]
    """best first"""
    ranking: Ranking
    """of the models"""
    seeds: Ranking | None = None
    """of the variants over their seeds, where a variant is there with several"""
    seeds_problem: str | None = None
    """why the variants that are there several times are not ranked over seeds"""


def compare_answers(
    candidates: Iterable[Candidate],
    task: Task,
    *,
    num_sequences: int = 256,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> AnswersComparison:
    """Ask every candidate the same `num_sequences` test examples over the training lengths and at each test length.

    They are ranked by the share of wrong answers at the test lengths; a piece of the ranking is one example at all of
    them, since an example at a greater length may begin with the shorter one. Candidates are taken one at a time.

    Raises `DataError` when there is no candidate or one knows other symbols, `ConfigError` when two have one name or
    one does not hold the lengths, `NumericsError`.
    """
    rows: dict[str, AnswersRow] = {}
    wrong: dict[str, list[float]] = {}
    weights: list[float] = []
    trained: list[Trained] = []
    for candidate in candidates:
        if candidate.name in rows:
            raise ConfigError(f"{candidate.name} is given twice; compare different checkpoints")
        _require_fit(candidate, task)
        if candidate.trained is not None:
            trained.append(candidate.trained)
        tests = {
            length: measure_accuracy(candidate.model, task, length, num_sequences, HELD_OUT_SEED, precision=precision)
            for length in task.test.marks()
        }
        rows[candidate.name] = _row(candidate, task, tests, num_sequences, precision)
        wrong_N = sum((one.asked & ~one.right).sum(axis=1) for one in tests.values())
        asked_N = sum(one.asked.sum(axis=1) for one in tests.values())
        wrong[candidate.name], weights = (wrong_N / asked_N).tolist(), np.asarray(asked_N, dtype=float).tolist()
    if not rows:
        raise DataError("nothing to evaluate: no checkpoint was given")
    ranking = rank_pieces(wrong, weights, WRONG_ANSWERS, pieces="examples")
    means = {standing.variant: standing.mean for standing in ranking.standings}
    seeds, problem = rank_over_seeds([(one, means[one.name]) for one in trained], WRONG_ANSWERS)
    return AnswersComparison(
        data=task.spec,
        data_sha256=task.sha256,
        chance=task.rule.chance,
        rows=tuple(rows[standing.variant] for standing in ranking.standings),
        ranking=ranking,
        seeds=seeds,
        seeds_problem=problem,
    )


def _require_fit(candidate: Candidate, task: Task) -> None:
    if candidate.tokenizer.sha256 != task.tokenizer.sha256:
        raise DataError(
            f"{candidate.name} does not know the symbols of {task.spec} (its tokenizer is {candidate.tokenizer.name}); "
            "compare it on the data that it was trained on"
        )
    require_room(candidate.model, task, max(task.train.last, task.test.last), candidate.name)


def _row(
    candidate: Candidate, task: Task, tests: dict[int, Answers], num_sequences: int, precision: Literal["fp32", "bf16"]
) -> AnswersRow:
    model = candidate.model
    trained = score_answers(model, task.batches("test", HELD_OUT_SEED, num_sequences, task.train), precision=precision)
    ((probe, _),) = task.batches("test", HELD_OUT_SEED, _PROBE, task.longest_training)
    return AnswersRow(
        name=candidate.name,
        variant=candidate.variant,
        step=candidate.step,
        parameters=model.num_parameters(),
        flops_per_token=flops_per_token(model.config, task.num_tokens(task.test.last)).forward,
        loss=trained.loss,
        accuracies=(
            trained.summary(str(task.train)),
            *(found.summary(str(length)) for length, found in tests.items()),
        ),
        spectra=snapshot(model, probe, precision=precision),
    )
