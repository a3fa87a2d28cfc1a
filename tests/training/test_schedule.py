from __future__ import annotations

import math

import pytest

from deep_delta.training.config import TrainingConfig
from deep_delta.training.schedule import learning_rate


def config(**fields: float) -> TrainingConfig:
    return TrainingConfig(**{"max_steps": 110, "warmup_steps": 10, "learning_rate": 2.0, **fields})


def test_warm_up_is_linear_and_ends_at_the_peak():
    assert [learning_rate(step, config()) for step in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])


def test_the_cosine_starts_at_the_peak_is_halfway_in_the_middle_and_ends_at_the_floor():
    rates = [learning_rate(step, config(min_learning_rate=0.5)) for step in (10, 60, 110)]
    assert rates == pytest.approx([2.0, 1.25, 0.5])


def test_the_cosine_itself():
    assert learning_rate(35, config()) == pytest.approx(1 + math.cos(math.pi / 4))


def test_the_last_step_still_learns():
    assert learning_rate(109, config()) > 0


def test_past_the_end_the_floor_stays():
    assert learning_rate(500, config(min_learning_rate=0.5)) == 0.5


def test_a_warm_up_longer_than_the_training_is_only_a_warm_up():
    assert learning_rate(9, config(max_steps=10, warmup_steps=20)) == pytest.approx(1.0)


def test_one_step_is_taken_at_the_peak():
    assert learning_rate(0, config(max_steps=1, warmup_steps=0)) == 2.0
