"""One whole picture of a session: bar, side pane, view, foot. The terminal and `--once` show the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rich.style import Style

from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.filters import matcher
from deep_delta.tui.layout import regions
from deep_delta.tui.session import VIEWS, Session, ViewName, status_of, summary
from deep_delta.tui.side import draw_legend, draw_side
from deep_delta.tui.views.benchmarks import draw_benchmarks
from deep_delta.tui.views.comparison import draw_comparison
from deep_delta.tui.views.curves import draw_curves
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
    rows = draw_side(canvas, side, session, palette)
    draw_legend(canvas, legend, session, palette)
    plots = _DRAW[session.view](canvas, view, session, palette)
    _draw_foot(canvas, foot, session, palette)
    return Frame(canvas, plots, rows, side, tabs)


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
