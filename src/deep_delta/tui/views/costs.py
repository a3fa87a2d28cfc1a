"""Below view 3, where there is room: what every seed reached against what it cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deep_delta.explore import Line, Trace
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.chart import ChartStyle, Series, draw_chart
from deep_delta.tui.drawing.numbers import Kind
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.drawing.scale import scale_of
from deep_delta.tui.session import Session

_COSTS: tuple[tuple[str, Kind, Callable[[Trace], float | None]], ...] = (
    ("training time", "seconds", lambda trace: trace.seconds or None),
    ("FLOPs a token", "count", lambda trace: trace.flops_per_token),
    ("parameters", "count", lambda trace: trace.parameters),
)


def draw_costs(canvas: Canvas, rect: Rect, session: Session, palette: Palette) -> None:
    """Every seed as a point: what it reached against what it cost; x goes on to the next cost."""
    cost, kind, of = _COSTS[session.cost % len(_COSTS)]
    points: list[tuple[int, float, float]] = []
    for variant in session.shown():
        for trace in variant.traces:
            x = of(trace)
            if x is not None and trace.best_loss is not None:
                points.append((variant.number, float(x), trace.best_loss))
    if not points:
        return
    places = [x for _, x, _ in points]
    style = ChartStyle(
        title=f"best validation loss against {cost}",
        x=scale_of(min(places), max(places), room=0.04),
        x_kind=kind,
        x_name=cost if kind == "count" else "",
        note="x: another cost",
        log=session.log,
    )
    series = [Series(number, Line.of(np.array([x]), np.array([loss]))) for number, x, loss in points]
    draw_chart(canvas, rect._replace(height=min(rect.height, 22), width=min(rect.width, 110)), series, style, palette)
