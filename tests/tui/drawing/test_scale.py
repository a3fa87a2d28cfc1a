"""Where a value lies on an axis."""

import numpy as np
import pytest

from deep_delta.tui.drawing.scale import Scale, scale_of


@pytest.mark.parametrize("scale", [Scale(-2.0, 6.0), Scale(1e-3, 1e4, True), Scale(-1.7e308, 1.7e308)], ids=str)
def test_ends_are_at_0_and_1_and_a_place_is_found_again(scale):
    places = scale.place(np.array([scale.low, scale.high]))
    assert places == pytest.approx([0, 1])
    for place in (0.0, 0.3, 1.0):
        assert scale.place(np.array([scale.at(place)]))[0] == pytest.approx(place)


def test_a_logarithmic_axis_has_no_place_for_zero_and_less():
    places = Scale(1.0, 100.0, True).place(np.array([10.0, 0.0, -1.0, np.nan]))
    assert places[0] == pytest.approx(0.5)
    assert places[1] == places[2] == -np.inf
    assert np.isnan(places[3])


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-300, 1e300])
def test_one_value_has_an_axis_around_it(value):
    scale = scale_of(value, value)
    assert scale.low < value < scale.high
    assert scale.place(np.array([value]))[0] == pytest.approx(0.5, abs=0.01)


def test_seconds_have_ticks_at_whole_minutes():
    ticks = scale_of(0.0, 600.0, room=0).ticks(6, "seconds")
    assert ticks.values == [0, 120, 240, 360, 480, 600]
    assert ticks.labels == ["0m", "2m", "4m", "6m", "8m", "10m"]


def test_counts_have_no_half():
    assert scale_of(1.0, 3.0, room=0).ticks(8, "count").values == [1, 2, 3]


@pytest.mark.parametrize("least", [1e-300, 1e-9, 0.5, 1e9])
@pytest.mark.parametrize("ratio", [1.0, 1.3, 8.0, 1e3, 1e12])
def test_a_logarithmic_axis_has_ticks(least, ratio):
    scale = scale_of(least, least * ratio, log=True)
    ticks = scale.ticks(6)
    assert 1 <= len(ticks.values) <= 6
    assert all(scale.low * 0.999 <= value <= scale.high * 1.001 for value in ticks.values)
    assert len(set(ticks.labels)) == len(ticks.labels)
