"""Shares that add up to one, stacked in every column: how much of a whole each part has, over x."""

# P parts, S places on x

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.style import Style

from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.chart import column_of, draw_x_axis
from deep_delta.tui.drawing.numbers import Kind
from deep_delta.tui.drawing.palette import SHADES, Palette
from deep_delta.tui.drawing.scale import Scale


@dataclass(frozen=True)
class Stack:
    """Shares [S, P] at `x` [S], ascending."""

    title: str
    shares: np.ndarray
    x: np.ndarray
    parts: Sequence[str]
    """names, from the bottom to the top"""
    short: Sequence[str]
    """shorter ones, for where there is little room"""
    scale: Scale
    x_kind: Kind = "count"
    x_name: str = ""
    cursor: float | None = None
    empty: str = "no gates: nothing to show"


def draw_stack(canvas: Canvas, rect: Rect, stack: Stack, palette: Palette) -> Rect:
    """Draw into `rect`; returns the inside."""
    if rect.is_empty:
        return Rect(rect.x, rect.y, 0, 0)
    end = canvas.put(rect.x, rect.y, stack.title, palette.title, limit=rect.width)
    body = rect.inset(left=6 if rect.width >= 30 else 0, top=1, bottom=1 if rect.height > 2 else 0)
    known = np.isfinite(stack.shares).all(axis=1)
    if not known.any() or body.is_empty:
        if not body.is_empty:
            canvas.put(body.x, body.y + body.height // 2, stack.empty, palette.dim, limit=body.width)
        return body
    _draw_key(canvas, end + 2, rect, stack.parts, stack.short, palette)
    halves = 2 if palette.ramp else 1
    at = stack.scale.place(stack.x[known]) * (body.width - 1)
    before = np.clip(np.searchsorted(at, np.arange(body.width) + 0.5, side="right") - 1, 0, None)
    bounds = np.cumsum(stack.shares[known][before], axis=1)  # [columns, P]
    middles = (np.arange(body.height * halves) + 0.5) / (body.height * halves)
    part = np.minimum(
        (bounds[:, None, :] <= middles[None, :, None] * bounds[:, None, -1:]).sum(axis=2), len(stack.parts) - 1
    )
    for column in range(body.width):
        for row in range(body.height):
            low = (body.height - 1 - row) * halves
            char, style = _cell(int(part[column, low + halves - 1]), int(part[column, low]), len(stack.parts), palette)
            canvas.put(body.x + column, body.y + row, char, style)
    if body.x > rect.x:
        canvas.put_right(body.x - 1, body.y, "100%", palette.dim)
        canvas.put_right(body.x - 1, body.bottom - 1, "0", palette.dim)
    if rect.height > 2:
        draw_x_axis(canvas, body, stack.scale, stack.x_kind, stack.x_name, palette)
    if stack.cursor is not None and stack.scale.low <= stack.cursor <= stack.scale.high:
        canvas.put(column_of(body, stack.scale, stack.cursor), body.bottom, "▲", palette.cursor)
    return body


def _draw_key(canvas: Canvas, x: int, rect: Rect, parts: Sequence[str], short: Sequence[str], palette: Palette) -> None:
    """A block and a name for each part, at the right; blocks alone where there is little room."""
    for names in (parts, short, [""] * len(parts)):
        width = sum(len(name) + 2 + bool(name) for name in names)
        if x + width <= rect.right + 1:
            at = rect.right - width + 1
            for index, name in enumerate(names):
                char, style = _cell(index, index, len(parts), palette)
                at = canvas.put(at, rect.y, char, style)
                at = canvas.put(at, rect.y, f" {name} " if name else " ", palette.dim)
            return


def _cell(upper: int, lower: int, parts: int, palette: Palette) -> tuple[str, Style]:
    if not palette.ramp:
        return SHADES[min(4, lower * 5 // parts)], palette.text
    most = max(1, parts - 1)
    return "▀", palette.halves(upper / most, lower / most)
