from __future__ import annotations

import math
from typing import Any

import pytest

from deep_delta.errors import ConfigError
from deep_delta.training.config import TrainingConfig
from deep_delta.training.schedule import learning_rate


def config(**fields: Any) -> TrainingConfig:
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


def rates(*steps: int, **fields: Any) -> list[float]:
    return [learning_rate(step, config(**fields)) for step in steps]


def test_the_line_goes_from_the_peak_to_the_floor():
    assert rates(10, 35, 60, 110, schedule="linear", min_learning_rate=0.5) == pytest.approx([2.0, 1.625, 1.25, 0.5])


def test_wsd_stays_at_the_peak_and_goes_down_at_the_end():
    assert rates(10, 50, 70, 80, 90, 110, schedule="wsd", decay_steps=40) == pytest.approx([2, 2, 2, 1.5, 1, 0])


def test_wsd_goes_down_over_a_fifth_where_nothing_else_is_said():
    assert rates(88, 99, 110, schedule="wsd") == pytest.approx([2.0, 1.0, 0.0])
    assert rates(9, 10, schedule="wsd", max_steps=11, warmup_steps=10) == pytest.approx([2.0, 2.0])


def test_constant_stays():
    assert rates(4, 10, 60, 109, schedule="constant") == pytest.approx([1.0, 2.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"schedule": "constant", "min_learning_rate": 0.1}, "constant never goes down"),
        ({"decay_steps": 10}, "decay_steps is for schedule wsd, and schedule is cosine"),
        ({"schedule": "wsd", "decay_steps": 105}, "must fit into max_steps, got 10, 105 and 110"),
        ({"schedule": "step"}, "schedule"),
    ],
)
def test_what_a_schedule_would_not_heed_is_refused(fields: dict[str, Any], says: str):
    with pytest.raises(ConfigError, match=says):
        config(**fields)
