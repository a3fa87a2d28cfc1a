"""One picture without a terminal: as tall as asked for, or as tables need."""

from __future__ import annotations

from deep_delta.tui.drawing.canvas import Canvas
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.frame import paint
from deep_delta.tui.session import Session
from deep_delta.tui.views.benchmarks import benchmark_lines
from deep_delta.tui.views.comparison import comparison_lines


def once(session: Session, width: int, height: int | None, palette: Palette, *, lines: int) -> Canvas:
    """The session's view. height: None for `lines`, or as many as the view's tables have."""
    if height is None:
        rows = {"comparison": comparison_lines, "benchmarks": benchmark_lines}.get(session.view)
        height = lines if rows is None else len(rows(session, width - 2, palette)) + 2
    return paint(session, width, height, palette).canvas
