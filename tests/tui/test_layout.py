"""Where things go, at every size."""

from itertools import combinations

import pytest

from deep_delta.tui.drawing.canvas import Rect
from deep_delta.tui.drawing.marks import LEAST_WIDTH
from deep_delta.tui.layout import arrange, regions

SIZES = [
    (width, height) for width in (1, 2, 23, 40, 59, 79, 80, 81, 100, 160, 300) for height in (1, 2, 4, 6, 10, 24, 50)
]


def overlaps(one, other):
    return one.x < other.right and other.x < one.right and one.y < other.bottom and other.y < one.bottom


def test_regions_tile_the_screen():
    for width, height in SIZES:
        found = [part for part in regions(width, height) if not part.is_empty]
        assert sum(part.width * part.height for part in found) == width * height
        assert not any(overlaps(*pair) for pair in combinations(found, 2))


def test_the_side_pane_gives_way_before_a_chart_is_narrow():
    for width in range(1, 200):
        found = regions(width, 30)
        if not found.side.is_empty:
            assert found.view.width >= 2 * LEAST_WIDTH
        if width < 3 * LEAST_WIDTH:
            assert found.side.is_empty
            assert found.view.width == width


@pytest.mark.parametrize("count", [0, 1, 2, 4, 7])
def test_panels_lie_side_by_side_and_wide_enough(count):
    for size in SIZES:
        _check_panels(size, count)


def _check_panels(size, count):
    rect = Rect(3, 2, *size)
    places = arrange(rect, count)
    assert len(places) <= count
    assert not any(overlaps(*pair) for pair in combinations(places, 2))
    for place in places:
        assert rect.x <= place.x
        assert place.right <= rect.right
        assert rect.y <= place.y
        assert place.bottom <= rect.bottom
        assert place.width >= min(LEAST_WIDTH, size[0])
