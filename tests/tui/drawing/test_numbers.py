"""Numbers as short text, at every magnitude."""

import math
from itertools import product

import pytest

from deep_delta.tui.drawing.numbers import bytes_text, count, duration, exact, log_label, number, seconds_text
from deep_delta.tui.drawing.scale import scale_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.31449, "2.314"), (0.0123456, "0.01235"), (123456.0, "123456"), (3.21e-9, "3.21e-9"), (1.5e9, "1.5e9"),
        (0.0, "0"), (-0.5, "-0.5000"), (math.nan, "nan"), (math.inf, "inf"), (None, "–"), (5e-324, "4.94e-324"),
        (1.7e308, "1.7e308"),
    ],
)  # fmt: skip
def test_values_have_about_four_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (999.6, "1.00k"), (1234, "1.23k"), (45_600_000, "45.6M"), (7.89e9, "7.89G"),
     (3e22, "3e22"), (None, "–"), (math.nan, "nan")],
)  # fmt: skip
def test_counts_have_a_unit(value, text):
    assert count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59.4 s"), (187, "3:07"), (18367, "5:06:07"), (183_600, "2 d 3 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_measured_times_and_sizes():
    assert [seconds_text(value) for value in (1.234, 0.0456, 789e-6)] == ["1.23 s", "45.6 ms", "789 µs"]
    assert [bytes_text(value) for value in (1.23e9, 45.6e6, 789e3)] == ["1.23 GB", "45.6 MB", "789 kB"]
    assert [exact(1200.0, "count"), exact(90.0, "seconds"), exact(2.5, "plain")] == ["1,200", "1:30", "2.500"]


def test_labels_of_a_logarithmic_axis():
    assert [log_label(value) for value in (1e-9, 0.01, 0.2, 1, 20, 1000, 1e6)] == [
        "1e-9", "0.01", "0.2", "1", "20", "1000", "1e6",
    ]  # fmt: skip


@pytest.mark.parametrize("center", [0.0, 1e-300, 1e-9, 3.3e-5, 0.1, 2.5, 777.0, 1e6, 1e9, 1e15, 1e300])
@pytest.mark.parametrize("kind", ["plain", "count", "seconds"])
def test_ticks_lie_on_the_axis_and_their_labels_differ(center, kind):
    """Whatever the magnitude and however small the range beside it; at most nine characters each."""
    for spread, sign in product([1e-9, 1e-3, 0.5, 3.0], [1, -1]):
        _check_ticks(sign * center or 1e-12, spread, kind)


def _check_ticks(around, spread, kind):
    scale = scale_of(around - abs(around) * spread, around + abs(around) * spread)
    ticks = scale.ticks(5, kind)
    assert 1 <= len(ticks.values) <= 5
    assert len(set(ticks.labels)) == len(ticks.labels)
    slack = (scale.high - scale.low) * 1e-6
    assert all(scale.low - slack <= value <= scale.high + slack for value in ticks.values)
    assert max(map(len, ticks.labels)) <= 9


def test_a_small_range_of_large_values_says_once_what_is_added():
    ticks = scale_of(1.0, 1.0 + 4e-9).ticks(4)
    assert ticks.offset == "1"
    assert ticks.labels[-1].startswith("+")


def test_ticks_near_a_billionth_are_read_back():
    """Where another plot widget shows 0.0000000."""
    ticks = scale_of(1e-9, 5e-9).ticks(5)
    assert [float(label) for label in ticks.labels] == pytest.approx(ticks.values)
    assert float(scale_of(1e9, 5e9).ticks(5).labels[0]) == pytest.approx(1e9)
