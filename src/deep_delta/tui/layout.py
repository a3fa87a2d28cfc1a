"""Where things go on a screen of any size, down to one cell."""

from __future__ import annotations

from typing import NamedTuple

from deep_delta.tui.drawing.canvas import Rect
from deep_delta.tui.drawing.marks import LEAST_WIDTH

_LABELS = 6  # columns of a small chart's y axis
_SMALL_WIDTH = LEAST_WIDTH + _LABELS
_SMALL_HEIGHT = 6
_MAIN_HEIGHT = 9


class Regions(NamedTuple):
    """Parts of the screen; empty ones have no room."""

    bar: Rect
    side: Rect
    legend: Rect
    """one line in place of the side pane"""
    view: Rect
    foot: Rect


def regions(width: int, height: int, *, with_side: bool = True) -> Regions:
    """A bar, a side pane, the view, a foot. The side pane gives way before a chart beside it is narrower than two small
    charts; then a line stands for it."""
    bar = Rect(0, 0, width, 1 if height >= 4 else 0)
    foot = Rect(0, height - 1, width, 1 if height >= 6 else 0)
    middle = Rect(0, bar.height, width, height - bar.height - foot.height)
    side_width = 20 if width < 100 else 28
    if not with_side or middle.height < 8 or width - side_width < 2 * _SMALL_WIDTH:
        line = 1 if with_side and middle.height >= 5 else 0
        legend = Rect(0, middle.y, width, line)
        return Regions(bar, Rect(0, 0, 0, 0), legend, middle.inset(top=line), foot)
    side = Rect(0, middle.y, side_width, middle.height)
    return Regions(bar, side, Rect(0, 0, 0, 0), middle.inset(left=side_width), foot)


def arrange(rect: Rect, count: int) -> list[Rect]:
    """One large place above rows of small ones, as many as there is room for; the first is the large one."""
    if count < 1 or rect.is_empty:
        return []
    columns = max(1, min(3, rect.width // _SMALL_WIDTH, count - 1))
    rows = min(-(-(count - 1) // columns), max(0, (rect.height - _MAIN_HEIGHT) // _SMALL_HEIGHT))
    if rect.width < _SMALL_WIDTH:
        rows = min(rows, max(0, rect.height - _MAIN_HEIGHT) // _SMALL_HEIGHT)
    if not rows:
        return [rect]
    small = max(_SMALL_HEIGHT, min(rect.height // 4, (rect.height * 6 // 10) // rows))
    main = rect._replace(height=rect.height - rows * small)
    places = [main]
    shown = min(count - 1, rows * columns)
    for index in range(shown):
        row, column = divmod(index, columns)
        beside = min(columns, shown - row * columns)  # the last row's panels share its width
        left, right = (rect.width * at // beside for at in (column, column + 1))
        gap = 1 if column + 1 < beside else 0
        places.append(Rect(rect.x + left, main.bottom + row * small, right - left - gap, small))
    return places
