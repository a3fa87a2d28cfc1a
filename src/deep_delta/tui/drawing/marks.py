"""What stands on a line: its mark, and signs for what no stroke can show."""

from __future__ import annotations

import numpy as np

from deep_delta.explore import Line
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.palette import Palette, mark
from deep_delta.tui.drawing.scale import Scale

LEAST_WIDTH = 24
"""Columns of a chart with its labels: before one has fewer, side panes give way."""

_EVERY = 26  # columns
_MARKED = 16  # columns of a chart's inside, at least


def draw_marks(
    canvas: Canvas,
    plot: Rect,
    number: int,
    columns: Line,
    scale: Scale,
    place: int,
    of: int,
    palette: Palette,
) -> None:
    """The series' mark at some places along its line, at its last point and at lone points; × where a value was not
    finite; ▾ where one is not above 0 on a logarithmic axis."""
    style, sign = palette.line(number), mark(number)
    mean = scale.place(columns.mean)
    finite = np.flatnonzero(np.isfinite(mean))
    if finite.size:
        wanted = _marked(finite, plot.width, place, of) if plot.width >= _MARKED else set()
        lone = {int(c) for c in finite if _is_lone(columns, int(c))} if finite.size <= plot.width else set()
        for column in wanted | lone | {int(finite[-1])}:
            canvas.put(plot.x + column // 2, plot.y + cell_row(float(mean[column]), plot.height), sign, style)
    for column in np.flatnonzero(columns.bad).tolist():
        canvas.put(plot.x + column // 2, plot.y, "×", style)
    if scale.log:
        for column in np.flatnonzero(scale.place(columns.low) == -np.inf).tolist():
            canvas.put(plot.x + column // 2, plot.bottom - 1, "▾", style)


def _marked(finite: np.ndarray, width: int, place: int, of: int) -> set[int]:
    """Columns of dots in which a line is marked: each series at other cells, and never at the last ones."""
    cells = np.arange(_EVERY * (place + 1) // (of + 1), width - 3, _EVERY)
    nearest = np.unique(finite[np.clip(np.searchsorted(finite, 2 * cells), 0, finite.size - 1)])
    return {int(column) for column in nearest if column < 2 * (width - 3)}


def _is_lone(columns: Line, column: int) -> bool:
    """Nothing is joined to it, so that no stroke shows it well."""
    has = np.isfinite(columns.mean)
    before, after = np.flatnonzero(has[:column]), np.flatnonzero(has[column + 1 :])
    joins_before = before.size and not columns.gap[column] and not columns.bad[before[-1] + 1 : column].any()
    if joins_before:
        return False
    if not after.size:
        return True
    following = column + 1 + int(after[0])
    return bool(columns.gap[following] or columns.bad[column + 1 : following].any())


def cell_row(place: float, height: int) -> int:
    """The row of cells, from the top, whose dots show a part of the height."""
    if not np.isfinite(place):
        return height - 1
    return round((1 - min(max(place, 0.0), 1.0)) * (4 * height - 1)) // 4
