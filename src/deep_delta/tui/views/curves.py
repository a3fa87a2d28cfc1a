"""View 1: training curves, a panel a measure, one x axis and one cursor for all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deep_delta.explore import Axis, Line, Measure, Variant, smooth
from deep_delta.explore.trace import TITLES
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.chart import ChartStyle, Series, draw_chart
from deep_delta.tui.drawing.numbers import Kind, exact
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.drawing.scale import Scale, scale_of
from deep_delta.tui.session import Session
from deep_delta.tui.views.panel import Panel, Plot, draw_panels, place_of, say_empty

AXIS_NAMES: dict[Axis, str] = {"step": "steps", "tokens": "tokens", "flops": "FLOPs", "seconds": "training time"}
SMOOTHED: tuple[Measure, ...] = ("loss", "grad_norm", "tokens_per_second")
"""Noisy from step to step; the others are as they are."""

_DENSE = 4  # points to a column of characters


class Curve(NamedTuple):
    """A variant's line of one measure, as it is shown."""

    variant: Variant
    line: Line
    """smoothed, or less the baseline's, where that is asked for"""
    raw: Line
    """the least, mean and greatest of its seeds"""


def axis_kind(axis: Axis) -> Kind:
    return "seconds" if axis == "seconds" else "count"


def curves_of(session: Session, measure: Measure) -> list[Curve]:
    """One for each shown variant that has the measure."""
    bases = _baselines(session, measure) if session.difference else {}
    found = []
    for variant in session.shown():
        raw = _since(session, variant, measure)
        if not raw.size:
            continue
        base = bases.get(variant.label)
        raw = raw if base is None else minus(raw, base)
        is_smooth = session.smoothing > 0 and measure in SMOOTHED
        found.append(Curve(variant, smooth(raw, session.smoothing) if is_smooth else raw, raw))
    return found


def x_scale(session: Session) -> Scale:
    """From the first to the last point of anything shown; of its tail, where that is asked for."""
    first, last = _extent(session)
    return scale_of(_since_x(session, first, last), last, room=0.0) if last > first else scale_of(first, last)


def draw_curves(canvas: Canvas, rect: Rect, session: Session, palette: Palette) -> list[Plot]:
    measures = session.measures()
    if not measures:
        reason = "no variant matches the filter" if session.filter else "no training step yet"
        say_empty(canvas, rect, [reason, "/ changes the filter" if session.filter else "waiting for the log"], palette)
        return []
    x = x_scale(session)
    panels = [_panel(session, measure, x, palette) for measure in measures]
    return draw_panels(canvas, rect, panels, session.main.get("curves", ""))


def main_measure(session: Session) -> Measure | None:
    measures = session.measures()
    return measures[place_of(session.main.get("curves", ""), measures)] if measures else None


def value_at(line: Line, x: float | None) -> float:
    """What a line is at x, at its nearest point: the last one where x is None; NaN where there is none."""
    if not line.size:
        return np.nan
    if x is None:
        finite = np.flatnonzero(np.isfinite(line.mean))
        return float(line.mean[finite[-1]]) if finite.size else np.nan
    if x < line.start[0] or x > line.x[-1]:
        return np.nan
    return float(line.mean[int(np.argmin(np.abs((line.x + line.start) / 2 - x)))])


def minus(line: Line, base: Line) -> Line:
    """A line less another, which is joined between its points; nothing beyond its ends."""
    known = np.isfinite(base.mean)
    if not known.any():
        return Line(*(column[:0] for column in line))
    inside = (line.x >= base.start[known][0]) & (line.x <= base.x[known][-1])
    part = Line(*(column[inside] for column in line))
    other = np.interp(part.x, base.x[known], base.mean[known])
    return part._replace(low=part.low - other, mean=part.mean - other, high=part.high - other)


def _panel(session: Session, measure: Measure, x: Scale, palette: Palette) -> Panel:
    def draw(canvas: Canvas, rect: Rect) -> Plot:
        curves = curves_of(session, measure)
        series = [_series(session, curve, rect.width, few=len(curves) <= 2) for curve in curves]
        style = ChartStyle(
            title=("Δ " if session.difference else "") + TITLES[measure],
            x=x,
            x_kind=axis_kind(session.axis),
            x_name=AXIS_NAMES[session.axis],
            y_kind="count" if measure == "tokens_per_second" else "plain",
            note=_note(session, measure) if rect.width >= 50 else "",
            log=session.log and not session.difference,
            cursor=session.cursor_here,
            empty="all variants are hidden" if not session.shown() else "nothing of this yet",
            zero=session.difference,
        )
        return Plot(draw_chart(canvas, rect, series, style, palette), x)

    return Panel(measure, draw)


def _series(session: Session, curve: Curve, width: int, *, few: bool) -> Series:
    """Its mean in front, and faintly behind it what the mean hides: the raw line of a smoothed one, the points of a
    column that has many, the spread over seeds (of the chosen variant, and of two at most)."""
    chosen = session.chosen_variant()
    is_chosen = chosen is not None and chosen.label == curve.variant.label
    several = len(curve.variant.traces) > 1
    is_smooth = curve.line is not curve.raw
    is_dense = curve.raw.size > _DENSE * width or bool((curve.raw.start < curve.raw.x).any())
    behind = curve.raw if is_smooth or is_dense or (several and (is_chosen or few)) else None
    return Series(
        curve.variant.number,
        curve.line,
        behind,
        is_band=several and not is_smooth and not is_dense,
        is_mean=is_smooth or is_dense or several,
        is_chosen=is_chosen,
    )


def _note(session: Session, measure: Measure) -> str:
    said = (
        []
        if session.cursor_here is None
        else [f"{AXIS_NAMES[session.axis]} {exact(session.cursor_here, axis_kind(session.axis))}"]
    )
    if session.difference:
        said.append("− baseline")
    elif session.log:
        said.append("log")
    if session.smoothing and measure in SMOOTHED:
        said.append(f"smoothed {session.smoothing:g}")
    if session.tail < 1:
        said.append(f"last {session.tail:.0%}")
    return " · ".join(said)


def _extent(session: Session) -> tuple[float, float]:
    first, last = np.inf, -np.inf
    for variant in session.shown():
        for trace in variant.traces:
            for measure in trace.measures():
                line = trace.line(measure, session.axis)
                if line.size:
                    first, last = min(first, float(line.start[0])), max(last, float(line.x[-1]))
    return (first, last) if last >= first else (0.0, 1.0)


def _since_x(session: Session, first: float, last: float) -> float:
    return last - (last - first) * session.tail


def _since(session: Session, variant: Variant, measure: Measure) -> Line:
    """Its band over seeds; of the tail at full resolution, where one seed's log keeps it."""
    if session.tail == 1 or len(variant.traces) > 1:
        return variant.band(measure, session.axis, points=1000)
    return variant.traces[0].line(measure, session.axis, _since_x(session, *_extent(session)))


def _baselines(session: Session, measure: Measure) -> dict[str, Line]:
    """For every variant the line of its experiment's baseline (its first variant, where none has that name)."""
    found = {}
    for experiment in session.exploration.experiments:
        base = next((one for one in experiment.variants if one.slug == "baseline"), experiment.variants[0])
        line = base.band(measure, session.axis, points=1000)
        found.update({variant.label: line for variant in experiment.variants})
    return found
