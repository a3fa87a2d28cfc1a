"""The help screen: keys, what the signs mean, and what could not be read."""

from __future__ import annotations

import textwrap
from typing import ClassVar

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget

from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.keys import KEYS, SIGNS
from deep_delta.tui.views.panel import Spans, draw_lines


def help_lines(palette: Palette, notices: list[str], width: int) -> list[Spans]:
    """Keys, signs, notices, within a width."""
    lines: list[Spans] = []
    column = 21 if width >= 60 else 13
    for title, rows in (("Keys", KEYS), ("Signs", SIGNS)):
        lines += [[(title, palette.title)]]
        for key, what in rows:
            first, *rest = textwrap.wrap(what, max(10, width - column - 2)) or [""]
            lines.append([(f" {key:<{column}}", palette.cursor), (first, palette.text)])
            lines += [[(" " * (column + 1) + part, palette.text)] for part in rest]
        lines.append([])
    if notices:
        lines.append([("Notices", palette.title)])
        for notice in notices:
            lines += [[(f" {part}", palette.warning)] for part in textwrap.wrap(notice, max(10, width - 2))]
        lines.append([])
    return [*lines, [("Esc or q leaves this page", palette.dim)]]


class HelpPage(Widget):
    """The lines, scrolled."""

    DEFAULT_CSS = "HelpPage { width: 1fr; height: 1fr; }"

    def __init__(self, palette: Palette, notices: list[str]) -> None:
        super().__init__()
        self.palette, self.notices, self.at = palette, notices, 0

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        canvas = Canvas(width, height)
        lines = help_lines(self.palette, self.notices, width - 3)
        self.at = draw_lines(canvas, Rect(1, 0, width - 1, height), lines, self.at, self.palette)
        return Strip([Segment(text, style) for text, style in canvas.runs(y)])


class HelpScreen(ModalScreen[None]):
    """Over the whole terminal, so that no colour is mixed with what lies below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "leave"),
        Binding("down,j", "scroll(1)", "down"),
        Binding("up,k", "scroll(-1)", "up"),
        Binding("pagedown,space", "scroll(10)", "down"),
        Binding("pageup", "scroll(-10)", "up"),
    ]

    def __init__(self, palette: Palette, notices: list[str]) -> None:
        super().__init__()
        self.page = HelpPage(palette, notices)

    def compose(self) -> ComposeResult:
        yield self.page

    def on_mount(self) -> None:
        self.styles.background = self.page.palette.background
        self.page.styles.background = self.page.palette.background

    def action_scroll(self, lines: int) -> None:
        self.page.at = max(0, self.page.at + lines)
        self.page.refresh()
