"""How the variants look: the same colour, mark and dash in every chart of a page, told apart without colour too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from deep_delta.models.variants import VARIANTS

COLOURS = ("currentColor", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b59f00")
"""Of Okabe and Ito, whose black is the page's own ink and whose yellow is darker here, to be seen on white."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))
"""The n-th time round the colours."""
REGIME_COLOURS = ("#cfd6de", "#56b4e9", "#009e73", "#e69f00", "#d55e00")


class Style(NamedTuple):
    colour: str
    shape: str
    dash: tuple[int, ...]


def styles(slugs: Iterable[str]) -> dict[str, Style]:
    """Of each variant. The six of the project always have the same; others follow."""
    wanted = list(dict.fromkeys(slugs))
    others = [slug for slug in wanted if slug not in VARIANTS]
    places = {slug: place for place, slug in enumerate((*VARIANTS, *others))}
    return {slug: _style(places[slug]) for slug in wanted}


def _style(place: int) -> Style:
    return Style(
        COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)], DASHES[place // len(COLOURS) % len(DASHES)]
    )
