"""The logic suite: each model's own task, at its training lengths and beyond, scored by exact answers."""

# N sequences, T time

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deep_delta.data.batches import IGNORED, Batch
from deep_delta.data.synthetic.task import Lengths, Task
from deep_delta.data.synthetic.task_data import HELD_OUT_SEED
from deep_delta.data.synthetic.tasks import is_task, parse_task
from deep_delta.evaluation.accuracy import require_room, score_answers
from deep_delta.evaluation.statistics import wilson
from deep_delta.evaluation.suites.examinee import Examinee
from deep_delta.evaluation.suites.language import ORDERS
from deep_delta.evaluation.suites.pairing import Asked
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.suites import SuiteRow

OTHERS = {"chaining": ("chaining-labels",), "chaining-labels": ("chaining",)}
COUNTED = 2000
"""Training sequences that the n-gram baselines are counted from."""


def task_of(examinee: Examinee) -> str | None:
    """The name of the task that a model was trained on; None for one of text."""
    name = examinee.about.data.name
    return name.split(":")[1] if is_task(name) else None


def logic_rows(
    examinees: Sequence[Examinee], num_sequences: int, *, told: Callable[[str], None] = lambda name: None
) -> tuple[list[SuiteRow], list[Asked]]:
    """Of every model a row for the training lengths of its task, and for each of the test lengths; and the answers at
    the test lengths, with sequences as clusters, for models of the same task."""
    rows: list[SuiteRow] = []
    answers: dict[str, dict[str, np.ndarray]] = {}
    clusters: dict[str, np.ndarray] = {}
    for examinee in examinees:
        told(examinee.name)
        found, by_task = _of_model(examinee, num_sequences)
        rows += found
        for spec, (right, sequences) in by_task.items():
            answers.setdefault(spec, {})[examinee.name] = right
            clusters[spec] = sequences
    return rows, [Asked(spec.split(":")[1], answers[spec], clusters[spec]) for spec in answers]


def _of_model(
    examinee: Examinee, num_sequences: int
) -> tuple[list[SuiteRow], dict[str, tuple[np.ndarray, np.ndarray]]]:
    trained = parse_task(examinee.about.data.name)
    model = examinee.load()
    counted = Counts(trained)
    rows: list[SuiteRow] = []
    by_task = {}
    for task in _asked(trained):
        found, answers = _rows(examinee.name, model, task, counted, num_sequences)
        rows += found
        by_task[task.spec] = answers
    return rows, by_task


def _asked(task: Task) -> list[Task]:
    """The task itself, and where there is another distribution of the same questions, that one too."""
    name = task.spec.split(":")[1]
    return [task] + [parse_task(task.spec.replace(f":{name}:", f":{other}:", 1)) for other in OTHERS.get(name, ())]


def _rows(
    name: str, model: DdlTransformer, task: Task, counted: Counts, num_sequences: int
) -> tuple[list[SuiteRow], tuple[np.ndarray, np.ndarray]]:
    """The rows of one task; and of the test lengths each answer [N], right or wrong, with its sequence's number [N]."""
    rows: list[SuiteRow] = []
    marks: list[np.ndarray] = []
    sequences: list[np.ndarray] = []
    for lengths in [task.train, *(Lengths(mark, mark) for mark in task.test.marks())]:
        require_room(model, task, lengths.last, name)
        batches = list(task.batches("test", HELD_OUT_SEED, num_sequences, lengths))
        answers = score_answers(model, batches)
        if rows:  # the training lengths come first
            marks.append(answers.right[answers.asked].astype(float))
            sequences.append(len(sequences) * num_sequences + np.nonzero(answers.asked)[0])
        right = int(answers.right.sum())
        low, high = wilson(right, answers.num_answers)
        by_counts: dict[str, Any] = {count: counted.score(batches, order) for count, order in ORDERS.items()}
        rows.append(
            SuiteRow(
                model=name, suite="logic", family=task.spec.split(":")[1], phenomenon=task.spec,
                split=str(lengths), count=answers.num_answers, score=answers.overall, low=low, high=high,
                exact=answers.exact, chance=task.rule.chance, majority=_majority(batches),
                **by_counts,
            )
        )  # fmt: skip
    return rows, (np.concatenate(marks), np.concatenate(sequences))


def _majority(batches: Sequence[Batch]) -> float:
    """Right answers of whoever always gives the answer that is right most often here."""
    asked = np.concatenate([targets[targets != IGNORED] for _, targets in batches])
    return float(np.bincount(asked).max() / len(asked))


class Counts:
    """The answer that stood most often behind the last words, in training sequences."""

    def __init__(self, task: Task) -> None:
        self._answers: dict[int, dict[tuple[int, ...], Counter[int]]] = {
            order: defaultdict(Counter) for order in range(1, max(ORDERS.values()) + 1)
        }
        for context, answer in _questions(task.batches("train", HELD_OUT_SEED, COUNTED, task.train)):
            for order, counts in self._answers.items():
                counts[context[-(order - 1) :] if order > 1 else ()][answer] += 1

    def score(self, batches: Sequence[Batch], order: int) -> float:
        """Share of right answers, each from the longest known words before it, at most order − 1."""
        right = total = 0
        for context, answer in _questions(batches):
            right += self._guess(context, order) == answer
            total += 1
        return right / total

    def _guess(self, context: tuple[int, ...], order: int) -> int:
        for shorter in range(order, 0, -1):
            known = self._answers[shorter].get(context[-(shorter - 1) :] if shorter > 1 else ())
            if known:
                return known.most_common(1)[0][0]
        return -1


def _questions(batches: Iterable[Batch]) -> Iterator[tuple[tuple[int, ...], int]]:
    """The words up to each question, at most four, and its answer."""
    reach = max(ORDERS.values()) - 1
    for ids, targets in batches:
        for row, place in zip(*np.nonzero(targets != IGNORED), strict=True):
            yield tuple(ids[row, max(0, place - reach + 1) : place + 1].tolist()), int(targets[row, place])
