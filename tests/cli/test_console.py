import pytest

from deep_delta.cli.console import count, duration


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9999, "9,999"), (12345, "12.3k"), (1.5e6, "1.5M"), (2e9, "2.0G")]
)
def test_counts_are_short(number, text):
    assert count(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (18367, "5:06:07")])
def test_durations_are_clocks(seconds, text):
    assert duration(seconds) == text
