"""The explorer's event loop: keys and mouse to the session, what the session reads to the screen."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from textual.app import App, ComposeResult
from textual.binding import BindingType

from deep_delta.errors import StorageError
from deep_delta.tui.drawing.palette import Palette, ThemeName, palette
from deep_delta.tui.export import clipboard_text, export_view
from deep_delta.tui.filters import Memory
from deep_delta.tui.help import HelpScreen
from deep_delta.tui.keys import BINDINGS
from deep_delta.tui.session import VIEWS, Session, status_of, summary
from deep_delta.tui.views.curves import AXIS_NAMES
from deep_delta.tui.views.panel import Plot, place_of
from deep_delta.tui.views.spectra import PANELS
from deep_delta.tui.widgets import Stage

_TEXTUAL_THEMES: dict[ThemeName, str] = {
    "dark": "textual-dark",
    "light": "textual-light",
    "ansi-dark": "ansi-dark",
    "ansi-light": "ansi-light",
}
REDRAW_SECONDS = 0.25
"""Between two redraws for what was read; a key is answered at once."""

_READ_SECONDS = 0.04
_SIGNALS = 128


class Explorer(App[None]):
    """`ddl tui`."""

    TITLE = "ddl tui"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = BINDINGS

    def __init__(self, session: Session, theme: ThemeName, memory: Memory | None = None, *, color: bool = True) -> None:
        """color: False where NO_COLOR asks for none; the theme is then an ANSI theme."""
        super().__init__()
        self.session, self.memory = session, memory
        self.palette: Palette = palette(theme, color=color)
        self.theme = _TEXTUAL_THEMES[theme]
        self.stage = Stage(session, self.palette)
        self.failure: Exception | None = None
        """a bug of ours, for the command line to report"""
        self._said = ""
        self._is_changed = False

    def compose(self) -> ComposeResult:
        yield self.stage

    def on_mount(self) -> None:
        self.screen.styles.background = self.palette.background
        self.stage.styles.background = self.palette.background
        self.call_after_refresh(gc.enable)  # the command line starts without it
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh(layout=True))
        self._end_on(signal.SIGTERM, signal.SIGHUP)
        self.set_interval(REDRAW_SECONDS, self._follow)
        if self.session.exploration.behind:
            self._catch_up = self.set_interval(2 * _READ_SECONDS, self._read_on)

    def _end_on(self, *signals: signal.Signals) -> None:
        """Leave the terminal as it was when asked to end from outside."""
        loop = asyncio.get_running_loop()
        for number in signals:
            try:
                loop.add_signal_handler(number, self._end, _SIGNALS + number)
            except (ValueError, RuntimeError, NotImplementedError):  # not the main thread: signals are someone else's
                return

    def _end(self, code: int) -> None:
        self.exit(return_code=code)

    def _handle_exception(self, error: Exception) -> None:
        """Leave the terminal as it was; the command line says what happened in one line."""
        if self.is_headless:
            super()._handle_exception(error)
            return
        self.failure = error
        self.exit()

    def _read_on(self) -> None:
        """A long log is read between redraws; the screen shows how far."""
        self._is_changed |= self.session.exploration.poll(_READ_SECONDS)
        if not self.session.exploration.behind:
            self._catch_up.stop()

    def _follow(self) -> None:
        """Read what is new; repaint where anything changed, the words for its age included."""
        changed = self.session.exploration.poll(_READ_SECONDS) | self._is_changed
        self._is_changed = False
        chosen = self.session.chosen_variant()
        status = status_of(chosen.traces).text if chosen is not None else ""
        said = f"{summary(self.session.exploration).text}|{status}|{self.session.message}"
        if changed or said != self._said:
            self._said = said
            self.stage.repaint()

    def action_view(self, name: Any) -> None:
        self.session.view = name
        self.stage.repaint()

    def action_next_view(self, step: int) -> None:
        if len(self.screen_stack) == 1 and self.session.typed is None:
            self.action_view(VIEWS[(VIEWS.index(self.session.view) + step) % len(VIEWS)])

    def action_choose(self, step: int) -> None:
        if self.session.view == "benchmarks":
            self.action_scroll(step)
            return
        self.session.choose(step)
        self.stage.repaint()

    def action_show_or_hide(self) -> None:
        self.session.toggle()
        self.stage.repaint()

    def action_show_all(self) -> None:
        self.session.hidden.clear()
        self.stage.repaint()

    def action_next_seed(self) -> None:
        self.session.seed += 1
        self.stage.repaint()

    def action_panel(self, step: int) -> None:
        view = self.session.view
        names: Sequence[str] = {"spectra": PANELS, "curves": self.session.measures()}.get(view, ())
        if names:
            at = place_of(self.session.main.get(view, ""), names)
            self.session.main[view] = names[(at + step) % len(names)]
            self.stage.repaint()

    def action_axis(self) -> None:
        if self.session.view == "comparison":
            self.session.cost += 1
            self.stage.repaint()
            return
        self.session.next_axis()
        self._say(f"x: {AXIS_NAMES[self.session.axis]}")

    def action_log(self) -> None:
        self.session.log = not self.session.log
        self._say("y: logarithmic" if self.session.log else "y: linear")

    def action_smoothing(self) -> None:
        self.session.next_smoothing()
        self._say(f"smoothing {self.session.smoothing:g}" if self.session.smoothing else "no smoothing")

    def action_difference(self) -> None:
        self.session.difference = not self.session.difference
        self._say("difference to the baseline" if self.session.difference else "values")

    def action_tail(self) -> None:
        self.session.next_tail()
        self._say(f"the last {self.session.tail:.0%}" if self.session.tail < 1 else "all of it")

    def action_cursor(self, columns: int) -> None:
        """Move the cursor by columns of the large panel; the first press puts it at the right end."""
        if not self.stage.frame.plots:
            return
        plot = self.stage.frame.plots[0]
        at = plot.rect.width - 1
        cursor = self.session.cursor_here
        if cursor is not None:
            at = round(float(plot.x.place(np.array([cursor]))[0]) * (plot.rect.width - 1)) + columns
        self._put_cursor(plot, at)

    def action_no_cursor(self) -> None:
        self.session.cursor = None
        self.stage.repaint()

    def _put_cursor(self, plot: Plot, column: int) -> None:
        place = min(max(column, 0), plot.rect.width - 1) / max(1, plot.rect.width - 1)
        if self.session.put_cursor(plot.x.at(place)):
            self.stage.repaint()

    def action_scroll(self, lines: int) -> None:
        view = self.session.view
        self.session.scroll[view] = max(0, self.session.scroll.get(view, 0) + lines)
        self.stage.repaint()

    def action_copy(self) -> None:
        text = clipboard_text(self.session)
        if text:
            self.copy_to_clipboard(text)
        lines = text.count("\n")
        self._say(f"copied {lines} line{'s' if lines != 1 else ''}" if text else "nothing to copy")

    def action_export(self) -> None:
        try:
            picture, table = export_view(
                self.session, Path.cwd(), self.stage.size.width, self.stage.size.height, self.palette
            )
        except (StorageError, FileNotFoundError) as error:  # the present folder may be gone
            self._say(str(error))
            return
        self._say(f"wrote {picture.name} and {table.name}")

    def action_help(self) -> None:
        self.push_screen(HelpScreen(self.palette, self.session.exploration.notices))

    def action_interrupt(self) -> None:
        self.exit(return_code=_SIGNALS + signal.SIGINT)

    def on_stage_typed(self) -> None:
        self.stage.repaint()

    def on_stage_entered(self) -> None:
        problem = self.memory.keep(self.session.pattern) if self.memory is not None else ""
        if problem:
            self._say(problem)

    def on_stage_clicked(self, event: Stage.Clicked) -> None:
        frame = self.stage.frame
        if event.y == 0 and event.x in frame.tabs:
            self.action_view(frame.tabs[event.x])
        elif frame.side.holds(event.x, event.y) and event.y in frame.rows:
            label = frame.rows[event.y]
            if self.session.chosen == label:
                self.session.toggle()
            self.session.chosen = label
            self.stage.repaint()

    def on_stage_hovered(self, event: Stage.Hovered) -> None:
        plots = [plot for plot in self.stage.frame.plots if plot.rect.holds(event.x, event.y)]
        if plots:
            self._put_cursor(plots[0], event.x - plots[0].rect.x)

    def on_stage_scrolled(self, event: Stage.Scrolled) -> None:
        self.action_scroll(event.lines)

    def _say(self, message: str) -> None:
        self.session.say(message)
        self.stage.repaint()
