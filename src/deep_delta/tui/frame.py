"""One whole picture of a session: bar, side pane, view, foot. The terminal and `--once` show the same."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from rich.style import Style

from deep_delta.explore import Status, Variant
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.numbers import count, duration, number
from deep_delta.tui.drawing.palette import Palette, mark
from deep_delta.tui.filters import matcher
from deep_delta.tui.layout import regions
from deep_delta.tui.session import VIEWS, Session, ViewName, status_of, summary
from deep_delta.tui.views.benchmarks import draw_benchmarks
from deep_delta.tui.views.comparison import draw_comparison
from deep_delta.tui.views.curves import draw_curves, main_measure, value_at
from deep_delta.tui.views.panel import Plot
from deep_delta.tui.views.spectra import draw_spectra

_DRAW: dict[ViewName, Callable[[Canvas, Rect, Session, Palette], list[Plot]]] = {
    "curves": draw_curves,
    "spectra": draw_spectra,
    "comparison": draw_comparison,
    "benchmarks": draw_benchmarks,
}
_HINTS = {
    "curves": "? help  space hide  l log  x axis  s smooth  z zoom  d − baseline  m panel  / filter",
    "spectra": "? help  j k variant  n seed  m panel  ← → cursor  z zoom  e export",
    "comparison": "? help  j k variant  PgDn scroll  / filter  y copy  e export",
    "benchmarks": "? help  j k scroll  / filter  y copy  e export",
}


class Frame(NamedTuple):
    """A picture, and what lies where for the mouse."""

    canvas: Canvas
    plots: list[Plot]
    rows: dict[int, str]
    """lines of the side pane: the label of the variant in each"""
    side: Rect
    tabs: dict[int, ViewName]
    """columns of the bar"""


def paint(session: Session, width: int, height: int, palette: Palette) -> Frame:
    canvas = Canvas(width, height)
    has_variants = session.view != "benchmarks" and bool(session.exploration.variants)
    bar, side, legend, view, foot = regions(width, height, with_side=has_variants)
    if session.view == "comparison" and view.width < 100:  # its table names the variants
        view = Rect(0, bar.height, width, view.bottom - bar.height)
        side = legend = Rect(0, 0, 0, 0)
    tabs = _draw_bar(canvas, bar, session, palette)
    rows = _draw_side(canvas, side, session, palette)
    _draw_legend(canvas, legend, session, palette)
    plots = _DRAW[session.view](canvas, view, session, palette)
    _draw_foot(canvas, foot, session, palette)
    return Frame(canvas, plots, rows, side, tabs)


def status_style(status: Status, palette: Palette) -> Style:
    styles = {"failed": palette.bad, "silent": palette.warning, "stopped": palette.warning, "running": palette.good}
    return styles.get(status.kind, palette.dim)


def _draw_bar(canvas: Canvas, bar: Rect, session: Session, palette: Palette) -> dict[int, ViewName]:
    """The views by number, and all runs together."""
    if bar.is_empty:
        return {}
    canvas.fill(bar, " ", palette.bar)
    tabs: dict[int, ViewName] = {}
    x = bar.x
    short = bar.width < 48
    for index, name in enumerate(VIEWS, start=1):
        style = palette.tab if name == session.view else palette.bar
        label = f" {index} {name} " if not short or name == session.view else f" {index} "
        end = canvas.put(x, bar.y, label, style)
        tabs.update(dict.fromkeys(range(x, end), name))
        x = end
    status = summary(session.exploration)
    text = f"{status.text} "
    if session.filter:
        text = f"/{session.filter}  {text}"
    room = bar.right - x - 1
    if room >= 8:
        canvas.put_right(bar.right, bar.y, text, palette.bar, limit=room)
    return tabs


def _draw_side(canvas: Canvas, side: Rect, session: Session, palette: Palette) -> dict[int, str]:
    """Variants with mark and value; below them what is known of the chosen one."""
    if side.is_empty:
        return {}
    inner = side.inset(right=1)
    listed, chosen = session.listed(), session.chosen_variant()
    details = _details(session, chosen, inner.width - 1, palette)
    room = max(3, inner.height - len(details) - 2)
    at = next((index for index, one in enumerate(listed) if chosen is not None and one.label == chosen.label), 0)
    first = max(0, min(at - room // 2, len(listed) - room))
    measure = main_measure(session) if session.view == "curves" else None
    title = _side_title(session, measure)
    canvas.put(inner.x + 1, inner.y, title, palette.dim, limit=inner.width - 1)
    rows: dict[int, str] = {}
    for y, variant in enumerate(listed[first : first + room], start=inner.y + 1):
        rows[y] = variant.label
        _draw_variant(canvas, inner._replace(y=y, height=1), variant, session, measure is not None, palette)
    if first + room < len(listed):
        canvas.put(inner.right - 1, inner.y + room, "↓", palette.cursor)
    y = inner.y + 2 + min(room, len(listed))
    for offset, (text, style) in enumerate(details):
        if y + offset < inner.bottom:
            canvas.put(inner.x + 1, y + offset, text, style, limit=inner.width - 1)
    return rows


def _side_title(session: Session, measure: str | None) -> str:
    if not session.listed():
        return "no variant matches"
    if measure is None:
        return "variants"
    return "at the cursor" if session.cursor_here is not None else "last value"


def _draw_variant(
    canvas: Canvas, row: Rect, variant: Variant, session: Session, with_value: bool, palette: Palette
) -> None:
    chosen = session.chosen_variant()
    is_chosen = chosen is not None and chosen.label == variant.label
    is_hidden = variant.label in session.hidden
    if is_chosen:
        canvas.fill(row, " ", palette.chosen)
    sign = "·" if is_hidden else mark(variant.number)
    lay = palette.chosen if is_chosen else None
    color = palette.dim if is_hidden else palette.line(variant.number)
    name = palette.dim if is_hidden else palette.text
    value = _shown_value(variant, session) if with_value and not is_hidden else ""
    canvas.put(row.x, row.y, "▸" if is_chosen else " ", name if lay is None else name + lay)
    canvas.put(row.x + 1, row.y, f"{sign} ", color if lay is None else color + lay)
    free = row.right - 3 - (len(value) + 1 if value else 0)
    canvas.put(row.x + 3, row.y, variant.label, name if lay is None else name + lay, limit=free - row.x)
    canvas.put_right(row.right, row.y, value, name if lay is None else name + lay)


def _shown_value(variant: Variant, session: Session) -> str:
    measure = main_measure(session)
    if measure is None:
        return ""
    value = value_at(variant.band(measure, session.axis), session.cursor_here)
    return "" if np.isnan(value) else number(value, 4) if row_fits(value) else number(value, 3)


def row_fits(value: float) -> bool:
    return len(number(value, 4)) <= 6


def _details(session: Session, chosen: Variant | None, width: int, palette: Palette) -> list[tuple[str, Style]]:
    """Status and size of the chosen variant, and what could not be read."""
    lines: list[tuple[str, Style]] = []
    if chosen is not None:
        status = status_of(chosen.traces)
        lines += [(part, status_style(status, palette)) for part in _wrapped(status.text, width)[:3]]
        first = chosen.traces[0]
        facts = {
            "seeds": str(len(chosen.traces)) if len(chosen.traces) > 1 else None,
            "best": None if first.best_loss is None else f"{first.best_loss:.4f} at {first.best_step:,}",
            "params": None if first.parameters is None else count(first.parameters),
            "FLOPs": None if first.flops_per_token is None else f"{count(first.flops_per_token)}/token",
            "speed": None if first.tokens_per_second is None else f"{count(first.tokens_per_second)} tok/s",
            "time": duration(first.seconds) if first.seconds else None,
        }
        lines += [(f"{name} {fact}", palette.dim) for name, fact in facts.items() if fact is not None]
    notices = session.exploration.notices
    if notices:
        lines.append((f"{len(notices)} notice{'s' if len(notices) > 1 else ''}: see ?", palette.warning))
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(8, width)) or [""]


def _draw_legend(canvas: Canvas, legend: Rect, session: Session, palette: Palette) -> None:
    """One line in the side pane's place, the chosen variant first."""
    if legend.is_empty:
        return
    chosen = session.chosen_variant()
    x = legend.x
    listed = session.listed()
    if chosen is None:
        canvas.put(x, legend.y, "no variant matches the filter", palette.dim, limit=legend.width)
        return
    for variant in [chosen, *(one for one in listed if one.label != chosen.label)]:
        hidden = variant.label in session.hidden
        label = f"{'·' if hidden else mark(variant.number)} {variant.label}"
        if x + len(label) > legend.right:
            canvas.put(min(x, legend.right - 1), legend.y, "…", palette.dim)
            return
        style = palette.dim if hidden else palette.line(variant.number)
        if variant.label == chosen.label:
            style = style + Style(bold=True, underline=True)
        x = canvas.put(x, legend.y, label, style) + 2


def _draw_foot(canvas: Canvas, foot: Rect, session: Session, palette: Palette) -> None:
    """A message; else keys, as many as fit."""
    if foot.is_empty:
        return
    canvas.fill(foot, " ", palette.bar)
    if session.typed is not None:
        _, problem = matcher(session.typed)
        said = problem or "glob or regular expression; Enter keeps, Esc leaves"
        end = canvas.put(foot.x + 1, foot.y, "/", palette.key)
        end = canvas.put(end, foot.y, session.typed[-max(1, foot.width - 4) :], palette.bar)
        canvas.put(end, foot.y, " ", palette.bar + Style(reverse=not palette.bar.reverse))
        canvas.put(end + 2, foot.y, said, palette.bar, limit=foot.right - end - 3)
        return
    if session.message:
        canvas.put(foot.x + 1, foot.y, session.message, palette.bar + Style(bold=True), limit=foot.width - 2)
        return
    chosen = session.chosen_variant()
    hints = _HINTS[session.view].split("  ")
    x = foot.x + 1
    for hint in [*hints, "q quit"]:
        key, _, what = hint.rpartition(" ") if hint.startswith(("j k", "← →")) else hint.partition(" ")
        if x + len(hint) > foot.right:
            break
        x = canvas.put(x, foot.y, key, palette.key)
        x = canvas.put(x, foot.y, f" {what}  ", palette.bar)
    if chosen is not None and session.view == "spectra" and foot.right - x > 12:
        canvas.put_right(foot.right - 1, foot.y, status_of(chosen.traces).text, palette.bar, limit=foot.right - x - 2)
