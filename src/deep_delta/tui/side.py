"""The side pane: variants with their marks and values, and what is known of the chosen one; or one line of it."""

from __future__ import annotations

import textwrap

import numpy as np
from rich.style import Style

from deep_delta.explore import Status, Variant
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.numbers import count, duration, number
from deep_delta.tui.drawing.palette import Palette, mark
from deep_delta.tui.session import Session, status_of
from deep_delta.tui.views.curves import main_measure, value_at


def draw_side(canvas: Canvas, side: Rect, session: Session, palette: Palette) -> dict[int, str]:
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


def draw_legend(canvas: Canvas, legend: Rect, session: Session, palette: Palette) -> None:
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


def _status_style(status: Status, palette: Palette) -> Style:
    styles = {"failed": palette.bad, "silent": palette.warning, "stopped": palette.warning, "running": palette.good}
    return styles.get(status.kind, palette.dim)


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
    return "" if np.isnan(value) else number(value, 4) if _fits(value) else number(value, 3)


def _fits(value: float) -> bool:
    return len(number(value, 4)) <= 6


def _details(session: Session, chosen: Variant | None, width: int, palette: Palette) -> list[tuple[str, Style]]:
    """Status and size of the chosen variant, and what could not be read."""
    lines: list[tuple[str, Style]] = []
    if chosen is not None:
        status = status_of(chosen.traces)
        lines += [(part, _status_style(status, palette)) for part in _wrapped(status.text, width)[:3]]
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
