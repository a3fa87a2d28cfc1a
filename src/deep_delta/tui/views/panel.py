"""What views have in common: panels that share an x axis, and lines of text that scroll."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.style import Style

from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.drawing.scale import Scale
from deep_delta.tui.layout import arrange

Spans = Sequence[tuple[str, Style]]
"""One line of text."""


class Plot(NamedTuple):
    """The inside of a panel that was drawn, and its x axis: to find what lies under the mouse."""

    rect: Rect
    x: Scale


class Panel(NamedTuple):
    name: str
    draw: Callable[[Canvas, Rect], Plot | None]


def draw_panels(canvas: Canvas, rect: Rect, panels: Sequence[Panel], first: str) -> list[Plot]:
    """The panel of that name in the large place, the others after it in the small ones."""
    if not panels:
        return []
    start = place_of(first, [panel.name for panel in panels])
    order = [panels[start], *panels[:start], *panels[start + 1 :]]
    drawn = [panel.draw(canvas, place) for panel, place in zip(order, arrange(rect, len(order)), strict=False)]
    return [plot for plot in drawn if plot is not None and not plot.rect.is_empty]


def place_of(name: str, names: Sequence[str]) -> int:
    """0 where it is not among them."""
    return names.index(name) if name in names else 0


def draw_lines(canvas: Canvas, rect: Rect, lines: Sequence[Spans], scroll: int, palette: Palette) -> int:
    """Lines from number `scroll` on; returns the scroll that was possible. An arrow at the right says that there is
    more."""
    most = max(0, len(lines) - rect.height)
    scroll = min(max(0, scroll), most)
    for y, spans in enumerate(lines[scroll : scroll + max(0, rect.height)], start=rect.y):
        x = rect.x
        for text, style in spans:
            if x < rect.right:
                x = canvas.put(x, y, text, style, limit=rect.right - x)
    if not rect.is_empty:
        if scroll > 0:
            canvas.put(rect.right - 1, rect.y, "↑", palette.cursor)
        if scroll < most:
            canvas.put(rect.right - 1, rect.bottom - 1, "↓", palette.cursor)
    return scroll


def say_empty(canvas: Canvas, rect: Rect, lines: Sequence[str], palette: Palette) -> None:
    """What there is not, and what to do, in the middle of the view."""
    top = rect.y + max(0, (rect.height - len(lines)) // 2)
    for index, line in enumerate(lines):
        style = palette.title if index == 0 else palette.dim
        canvas.put(rect.x + 2, top + index, line, style, limit=rect.width - 3)
