from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from deep_delta.errors import CheckpointError
from deep_delta.runs.comparison import CURVE_POINTS
from deep_delta.runs.layout import VariantFolder
from deep_delta.training.summary import summarize_variant
from tests.training.tiny import tiny_config, tiny_training


def log_steps(folder: VariantFolder, count: int) -> None:
    for step in range(1, count + 1):
        fields = {"loss": 1 / step, "learning_rate": 0.1, "grad_norm": 1.0, "tokens": 10, "seconds": 0.5 * step}
        folder.events.append("step", step=step, **fields)


def log_evaluation(folder: VariantFolder, step: int, loss: float | None) -> None:
    folder.events.append(
        "evaluation", step=step, loss=loss, bits_per_byte=loss, tokens=1, num_bytes=1, spectra=[], best=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> VariantFolder:
    return VariantFolder(tmp_path / "ddl")


def summary(folder: VariantFolder):
    return summarize_variant(folder, tiny_config("ddl"), tiny_training(), parameters=5)


def test_a_variant_without_events_is_not_started(folder: VariantFolder):
    found = summary(folder)
    assert (found.status, found.step, found.best_loss, found.tokens_per_second) == ("not started", 0, None, None)


def test_the_best_is_the_lowest_and_the_first_of_equals(folder: VariantFolder):
    for step, loss in enumerate([None, 3.0, 2.0, 2.0, 2.5]):
        log_evaluation(folder, step, loss)
    found = summary(folder)
    assert (found.best_loss, found.best_step, found.status) == (2.0, 2, "unfinished")
    assert len(found.evaluations) == 5


def test_speed_is_the_median_step_s(folder: VariantFolder):
    log_steps(folder, 3)
    assert summary(folder).tokens_per_second == 10.0


def test_a_long_curve_is_thinned_evenly_and_keeps_its_end(folder: VariantFolder):
    log_steps(folder, 2 * CURVE_POINTS + 1)
    steps = [point.step for point in summary(folder).curve]
    assert len(steps) <= CURVE_POINTS
    assert steps[-1] == 2 * CURVE_POINTS + 1
    assert {later - earlier for earlier, later in pairwise(steps)} == {3}


def test_a_failure_is_told_until_the_variant_goes_on(folder: VariantFolder):
    log_steps(folder, 1)
    folder.events.append("failed", problem="the loss is nan")
    assert summary(folder).problem == "the loss is nan"
    folder.events.append("resumed", step=1, checkpoint="step-1")
    assert summary(folder).problem is None


def test_a_damaged_event_is_an_error_that_names_the_log(folder: VariantFolder):
    log_evaluation(folder, 1, 1.0)
    folder.events.append("evaluation", step=2)
    with pytest.raises(CheckpointError, match=r"events.jsonl: loss is required"):
        summary(folder)
