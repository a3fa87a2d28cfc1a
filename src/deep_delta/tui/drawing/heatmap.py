"""A heat map of half blocks: two rows of values to a row of characters, or shades where there are no colours."""

# L rows of values, S values along x, C columns and R rows of the picture

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.style import Style

from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.chart import column_of, draw_x_axis
from deep_delta.tui.drawing.numbers import Kind, number
from deep_delta.tui.drawing.palette import SHADES, Palette
from deep_delta.tui.drawing.scale import Scale

_LABELS = 10


@dataclass(frozen=True)
class Heat:
    """Values [L, S] at `x` [S], ascending; NaN where there is none."""

    title: str
    values: np.ndarray
    x: np.ndarray
    rows: Sequence[str]
    scale: Scale
    bounds: tuple[float, float] | None = None
    """of the colours; the least and greatest value where None"""
    x_kind: Kind = "count"
    x_name: str = ""
    cursor: float | None = None
    empty: str = "no gates: nothing to show"


def draw_heat(canvas: Canvas, rect: Rect, heat: Heat, palette: Palette) -> Rect:
    """Draw into `rect`: title and colour bar, the map, the x axis. Returns the inside."""
    if rect.is_empty:
        return Rect(rect.x, rect.y, 0, 0)
    names = heat.rows if rect.width >= 36 else [name.partition(" ")[0] for name in heat.rows]
    labels = min(max(map(len, names), default=0), _LABELS) if rect.width >= 20 else 0
    body = rect.inset(left=labels + 1 if labels else 0, top=1, bottom=1 if rect.height > 2 else 0)
    title = f"{heat.title}, layer × step" if rect.width >= len(heat.title) + 40 else heat.title
    canvas.put(rect.x, rect.y, title, palette.title, limit=rect.width)
    finite = heat.values[np.isfinite(heat.values)]
    if not finite.size or body.is_empty:
        if not body.is_empty:
            canvas.put(body.x, body.y + body.height // 2, heat.empty, palette.dim, limit=body.width)
        return body
    low, high = heat.bounds or (float(finite.min()), float(finite.max()))
    _draw_bar(canvas, rect, title, low, high, palette)
    halves = 2 if palette.ramp else 1
    cells = resample(heat.values, heat.x, heat.scale, body.width, body.height * halves)
    spread = high - low
    places = np.clip((cells - low) / spread, 0, 1) if spread > 0 else np.where(np.isnan(cells), np.nan, 0.5)
    used = body._replace(height=-(-len(places) // halves))
    _draw_cells(canvas, used, places, halves, palette)
    _draw_labels(canvas, used, names, len(places), halves, labels, palette)
    if rect.height > 2:
        draw_x_axis(canvas, used, heat.scale, heat.x_kind, heat.x_name, palette)
    if heat.cursor is not None and heat.scale.low <= heat.cursor <= heat.scale.high:
        at = column_of(used, heat.scale, heat.cursor)
        canvas.put(at, used.bottom, "▲", palette.cursor)
    return used


def resample(values: np.ndarray, x: np.ndarray, scale: Scale, columns: int, most_rows: int) -> np.ndarray:
    """Values [L, S] as [R, C]: each column has what was measured last at its place, and rows are as high as
    fits. Of several values in a cell the one furthest from the row's median is kept, so that no spike is lost; NaN in a
    column before the first value, and where a value was NaN."""
    rows = pool_rows(values, most_rows)
    place = np.clip(np.rint(scale.place(x) * (columns - 1)).astype(int), 0, columns - 1)
    inside = (x >= scale.low) & (x <= scale.high)
    picture = np.full((len(rows), columns), np.nan)
    middle = np.nanmedian(np.where(np.isfinite(rows), rows, np.nan), axis=1, keepdims=True) if _any(rows) else 0.0
    furthest = np.argsort(np.where(np.isfinite(rows), np.abs(rows - middle), np.inf), axis=1, kind="stable")
    for row in range(len(rows)):
        order = furthest[row][inside[furthest[row]]]  # a missing value is as far as can be: it stays visible
        picture[row, place[order]] = rows[row, order]
    seen = np.unique(place[inside])
    if seen.size:
        source = seen[np.clip(np.searchsorted(seen, np.arange(columns), side="right") - 1, 0, seen.size - 1)]
        picture = picture[:, source]
        picture[:, : seen[0]] = np.nan
    return picture[np.arange(most_rows) * len(rows) // most_rows]


def pool_rows(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` rows: neighbours are averaged where there are more."""
    if len(values) <= most:
        return values
    groups = np.array_split(values, max(1, most), axis=0)
    return np.stack([_mean(group) for group in groups])


def _mean(group: np.ndarray) -> np.ndarray:
    finite = np.isfinite(group)
    number_of = finite.sum(axis=0)
    total = np.where(finite, group, 0.0).sum(axis=0)
    return np.divide(total, number_of, out=np.full(total.shape, np.nan), where=number_of > 0)


def _any(rows: np.ndarray) -> bool:
    return bool(np.isfinite(rows).any(axis=1).all())


def _draw_bar(canvas: Canvas, rect: Rect, title: str, low: float, high: float, palette: Palette) -> None:
    """least ▐████▌ greatest, at the right of the title."""
    first, last = number(low, 3), number(high, 3)
    size = min(12, rect.width - len(title) - len(first) - len(last) - 5)
    if size < 3:
        return
    at = rect.right - size - len(first) - len(last) - 2
    at = canvas.put(at, rect.y, f"{first} ", palette.dim)
    for index in range(size):
        place = index / (size - 1)
        char, style = _cell(place, place, palette)
        canvas.put(at + index, rect.y, char, style)
    canvas.put(at + size, rect.y, f" {last}", palette.dim)


def _draw_cells(canvas: Canvas, rect: Rect, places: np.ndarray, halves: int, palette: Palette) -> None:
    for row in range(rect.height):
        upper = places[row * halves]
        lower = places[min(row * halves + halves - 1, len(places) - 1)]
        beyond = halves == 2 and row * 2 + 1 >= len(places)
        for column in range(rect.width):
            char, style = _cell(float(upper[column]), float(np.nan if beyond else lower[column]), palette)
            canvas.put(rect.x + column, rect.y + row, char, style)


def _cell(upper: float, lower: float, palette: Palette) -> tuple[str, Style]:
    if not palette.ramp:
        return (" ", palette.dim) if np.isnan(upper) else (SHADES[min(4, int(upper * 5))], palette.text)
    if np.isnan(upper) and np.isnan(lower):
        return "·", palette.grid
    if np.isnan(lower):
        return "▀", palette.halves(upper, None)
    if np.isnan(upper):
        return "▄", palette.halves(lower, None)
    return "▀", palette.halves(upper, lower)


def _draw_labels(
    canvas: Canvas, rect: Rect, names: Sequence[str], rows: int, halves: int, width: int, palette: Palette
) -> None:
    """Names beside their rows, as many as find room."""
    if not width:
        return
    last = -1
    for index, name in enumerate(names):
        y = rect.y + int((index + 0.5) * rows / len(names)) // halves
        if y > last and y < rect.bottom:
            canvas.put_right(rect.x - 1, y, name, palette.dim, limit=width)
            last = y
