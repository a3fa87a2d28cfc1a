"""Colours that the colour-blind tell apart, marks where there are none, and themes that never mix."""

from itertools import combinations

import numpy as np
import pytest
from rich.color import ColorType

from deep_delta.tui.drawing.palette import THEMES, mark, palette

# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as people without red, green or blue cones see it
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(name):
    parts = np.array([int(name[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(name):
    return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(name))


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_differ_for_the_colour_blind(theme, kind):
    seen = [lab(np.array(BLINDNESS[kind]) @ linear(style.color.name)) for style in palette(theme).series]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 9


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_lines_stand_out_from_the_ground(theme):
    shown = palette(theme)
    ground = luminance(shown.background)
    for style in (*shown.series, shown.dim, shown.text):
        pair = sorted((ground, luminance(style.color.name)))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 3


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_heat_map_goes_steadily_from_dark_to_light(theme):
    """So that it reads without any colour vision."""
    lights = [luminance(palette(theme).heat(place)) for place in np.linspace(0, 1, 21)]
    steps = np.diff(lights) * (1 if lights[-1] > lights[0] else -1)
    assert (steps > 0).all()


def test_seventy_two_variants_have_a_pair_of_colour_and_mark_of_their_own():
    shown = palette("dark")
    assert len({(shown.line(number), mark(number)) for number in range(72)}) == 72


@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_keeps_to_its_kind_of_colours(theme):
    shown = palette(theme)
    styles = [value for value in vars(shown).values() if hasattr(value, "bgcolor")]
    kinds = {
        color.type
        for style in (*styles, *shown.series, *shown.behind)
        for color in (style.color, style.bgcolor)
        if color is not None
    }
    assert kinds == ({ColorType.STANDARD} if theme.startswith("ansi") else {ColorType.TRUECOLOR})


def test_without_colours_there_are_none():
    shown = palette("ansi-light", color=False)
    styles = [value for value in vars(shown).values() if hasattr(value, "bgcolor")]
    assert all(style.color is None and style.bgcolor is None for style in (*styles, *shown.series, *shown.behind))
