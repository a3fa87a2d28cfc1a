"""A line chart: axes, strokes of braille dots, marks, and one cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deep_delta.explore import Line, decimate
from deep_delta.tui.drawing.braille import Dots, area, stroke
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.marks import cell_row, draw_marks
from deep_delta.tui.drawing.numbers import Kind
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.drawing.scale import Scale, Ticks, scale_of

_LEAST_INSIDE = 12  # columns; a narrower chart goes without labels of y


@dataclass(frozen=True)
class Series:
    """A line in the colour and mark of `number`."""

    number: int
    line: Line
    behind: Line | None = None
    """drawn faintly under it: the raw line of a smoothed one, or the spread over seeds"""
    is_band: bool = False
    """`behind` is a spread: its area is filled"""
    is_mean: bool = False
    """of the points in a column only their mean is drawn; `behind` shows the others"""
    is_chosen: bool = False


@dataclass(frozen=True)
class ChartStyle:
    """What a chart says around its lines."""

    title: str
    x: Scale
    x_kind: Kind = "count"
    x_name: str = ""
    y_kind: Kind = "plain"
    note: str = ""
    """at the right of the title"""
    log: bool = False
    cursor: float | None = None
    empty: str = "nothing to draw yet"
    zero: bool = False
    """draw a line at y = 0"""
    bounds: tuple[float, float] | None = field(default=None)
    """the y axis shows at least this"""


def draw_chart(canvas: Canvas, rect: Rect, series: Sequence[Series], style: ChartStyle, palette: Palette) -> Rect:
    """Draw into `rect`; the last of `series` lies on top. Returns the inside, where x runs from left to right."""
    if rect.is_empty:
        return Rect(rect.x, rect.y, 0, 0)
    scale, problem = _y_scale(series, style)
    body = rect.inset(top=1, bottom=1) if rect.height > 3 else rect.inset(top=min(1, rect.height - 1))
    ticks = None if scale is None else scale.ticks(max(2, (2 * body.height + 2) // 5), style.y_kind)
    labels = _label_width(ticks, rect.width)
    plot = body.inset(left=labels + 1 if labels else 0)
    note = problem or style.note
    _draw_title(canvas, rect, style, ticks, note, palette)
    if plot.is_empty:
        return plot
    if scale is None or ticks is None:
        has_bad = any(one.line.between(style.x.low, style.x.high).bad.any() for one in series)
        message = "no value is finite" if has_bad else style.empty
        canvas.put(plot.x + 1, plot.y + plot.height // 2, message, palette.dim, limit=plot.width - 1)
        _draw_lines(canvas, plot, series, Scale(0.0, 1.0), style.x, palette)
        return plot
    _draw_y_axis(canvas, plot, scale, ticks, labels, style, palette)
    if rect.height > 3:
        draw_x_axis(canvas, plot, style.x, style.x_kind, style.x_name, palette)
    _draw_cursor(canvas, plot, style, palette)
    _draw_lines(canvas, plot, series, scale, style.x, palette)
    return plot


def _y_scale(series: Sequence[Series], style: ChartStyle) -> tuple[Scale | None, str]:
    """An axis for all that is seen, and a word where it cannot be what was asked for."""
    parts = [part for one in series for part in (one.line, one.behind) if part is not None]
    shown = [part.between(style.x.low, style.x.high) for part in parts]
    values = np.concatenate([array for part in shown for array in (part.low, part.high)] or [np.empty(0)])
    values = values[np.isfinite(values)]
    if style.bounds is not None and values.size:
        values = np.append(values, style.bounds)
    if not values.size:
        return None, ""
    if style.log:
        positive = values[values > 0]
        if positive.size:
            hidden = "▾ not above 0" if positive.size < values.size else ""
            return scale_of(float(positive.min()), float(positive.max()), log=True), hidden
        return scale_of(float(values.min()), float(values.max())), "linear: nothing is above 0"
    return scale_of(float(values.min()), float(values.max())), ""


def _label_width(ticks: Ticks | None, width: int) -> int:
    """Of the labels of the y axis; 0 where the chart is too narrow for any."""
    if ticks is None:
        return 0
    widest = max(map(len, ticks.labels))
    return widest if width - widest - 1 >= _LEAST_INSIDE else 0


def _draw_title(
    canvas: Canvas, rect: Rect, style: ChartStyle, ticks: Ticks | None, note: str, palette: Palette
) -> None:
    offset = f"  {ticks.offset} +" if ticks is not None and ticks.offset else ""
    end = canvas.put(rect.x, rect.y, style.title + offset, palette.title, limit=rect.width)
    room = rect.right - end - 2
    if note and room > 3:
        canvas.put_right(rect.right, rect.y, note, palette.dim, limit=room)


def _draw_y_axis(
    canvas: Canvas, plot: Rect, scale: Scale, ticks: Ticks, labels: int, style: ChartStyle, palette: Palette
) -> None:
    places = scale.place(np.array(ticks.values))
    rows = {plot.y + cell_row(place, plot.height): label for place, label in zip(places, ticks.labels, strict=True)}
    for y in range(plot.y, plot.bottom):
        if y in rows:
            canvas.put(plot.x, y, "┈" * plot.width, palette.grid)
        if labels:
            canvas.put(plot.x - 1, y, "┤" if y in rows else "│", palette.axis)
            canvas.put_right(plot.x - 1, y, rows.get(y, ""), palette.dim)
    if style.zero and not scale.log and scale.low < 0 < scale.high:
        y = plot.y + cell_row(float(scale.place(np.zeros(1))[0]), plot.height)
        canvas.put(plot.x, y, "─" * plot.width, palette.axis)


def draw_x_axis(canvas: Canvas, plot: Rect, x: Scale, kind: Kind, name: str, palette: Palette) -> None:
    """Labels under the chart, each under its place, and what x is at the right end."""
    if plot.is_empty or plot.bottom >= canvas.height:
        return
    ticks = x.ticks(max(2, plot.width // 12), kind)
    name = f"{ticks.offset} + {name}" if ticks.offset else name
    name = name if len(name) + 8 < plot.width else ""
    limit = plot.right - len(name) - (2 if name else 0)
    free = plot.x - 1
    for place, label in zip(x.place(np.array(ticks.values)), ticks.labels, strict=True):
        at = plot.x + round(float(place) * (plot.width - 1))
        begin = max(plot.x - 1, at - len(label) // 2)
        if begin >= free and begin + len(label) <= limit:
            free = canvas.put(begin, plot.bottom, label, palette.dim) + 1
    if name:
        canvas.put_right(plot.right, plot.bottom, name, palette.dim)


def column_of(plot: Rect, x: Scale, value: float) -> int:
    """The column of the canvas where a value of x lies."""
    return plot.x + min(plot.width - 1, max(0, round(float(x.place(np.array([value]))[0]) * (plot.width - 1))))


def _draw_cursor(canvas: Canvas, plot: Rect, style: ChartStyle, palette: Palette) -> None:
    if style.cursor is not None and style.x.low <= style.cursor <= style.x.high:
        at = column_of(plot, style.x, style.cursor)
        for y in range(plot.y, plot.bottom):
            canvas.put(at, y, "│", palette.cursor)


def _draw_lines(canvas: Canvas, plot: Rect, series: Sequence[Series], scale: Scale, x: Scale, palette: Palette) -> None:
    rows = 4 * plot.height
    edges = _edges(x, 2 * plot.width)
    behind, front = Dots(plot.width, plot.height), Dots(plot.width, plot.height)
    for one in series:
        if one.behind is not None:
            columns = decimate(one.behind, edges)
            paint = area if one.is_band else stroke
            behind.draw(paint(columns, rows, _places(columns, scale)), one.number, replace=True)
    drawn = [(one, _columns(one, edges)) for one in series]
    for one, columns in drawn:
        front.draw(stroke(columns, rows, _places(columns, scale)), one.number, replace=one.is_chosen)
    for dots, style in ((behind, palette.shade), (front, palette.line)):
        for y, x_cell in np.argwhere(dots.bits > 0).tolist():
            canvas.put(plot.x + x_cell, plot.y + y, dots.char(x_cell, y), style(int(dots.owner[y, x_cell])))
    for place, (one, columns) in enumerate(drawn):
        draw_marks(canvas, plot, one.number, columns, scale, place, len(drawn), palette)


def _columns(one: Series, edges: np.ndarray) -> Line:
    columns = decimate(one.line, edges)
    return columns._replace(low=columns.mean, high=columns.mean) if one.is_mean else columns


def _places(columns: Line, scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return scale.place(columns.low), scale.place(columns.mean), scale.place(columns.high)


def _edges(x: Scale, columns: int) -> np.ndarray:
    """The ends of dot columns, the first and the last centred on the ends of the axis."""
    half = 0.5 / max(1, columns - 1)
    return x.low + (x.high - x.low) * np.linspace(-half, 1 + half, columns + 1)
