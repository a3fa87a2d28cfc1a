from __future__ import annotations

from typing import Any

import pytest

from deep_delta.errors import ConfigError
from deep_delta.runs.duration import seconds
from deep_delta.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4h", 14400),
        ("1h30m", 5400),
        ("90s", 90),
        ("2d", 172800),
        ("0.5h", 1800),
        ("12", 12),
        (" 3m ", 180),
        (7.5, 7.5),
    ],
)
def test_times_as_people_write_them(text: Any, expected: float) -> None:
    assert seconds(text) == expected
    assert TrainingConfig(max_time=text).max_time == expected


@pytest.mark.parametrize("text", ["", "h", "4 h", "4x", "30m1h", "-1h", "nan", "inf", "0", "0s", -1, True, "1e999h"])
def test_what_is_no_time_is_refused(text: Any) -> None:
    with pytest.raises(ConfigError, match="max_time"):
        TrainingConfig(max_time=text)
