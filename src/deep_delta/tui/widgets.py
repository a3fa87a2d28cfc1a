"""The stage: the one widget of the screen, which shows a painted frame and hands on what is typed and clicked."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from deep_delta.tui.drawing.canvas import Canvas
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.frame import Frame, paint
from deep_delta.tui.session import Session

Runs = list[tuple[str, Style]]


class Stage(Widget, can_focus=True):
    """Paints the session, and sends to the terminal only the rows that changed."""

    DEFAULT_CSS = "Stage { width: 1fr; height: 1fr; }"

    class Typed(Message):
        """The filter that is being typed has changed."""

    class Entered(Message):
        """It is complete."""

    class Clicked(Message):
        """Something of the frame was clicked; `at` are its column and row."""

        def __init__(self, x: int, y: int) -> None:
            super().__init__()
            self.x, self.y = x, y

    class Hovered(Clicked):
        """The mouse moved over the frame."""

    class Scrolled(Message):
        def __init__(self, lines: int) -> None:
            super().__init__()
            self.lines = lines

    def __init__(self, session: Session, palette: Palette) -> None:
        super().__init__()
        self.session, self.palette = session, palette
        self.frame = Frame(Canvas(0, 0), [], {}, Canvas(0, 0).rect, {})
        self._rows: list[Runs] = []
        self.num_redraws = 0
        """how often anything was sent to the terminal"""

    def repaint(self) -> None:
        """Paint again; rows that are as before are not sent."""
        self.frame = paint(self.session, self.size.width, self.size.height, self.palette)
        rows = [self.frame.canvas.runs(y) for y in range(self.frame.canvas.height)]
        if len(rows) != len(self._rows):
            changed = [Region(0, 0, self.size.width, self.size.height)]
        else:
            changed = [Region(0, y, self.size.width, 1) for y, row in enumerate(rows) if row != self._rows[y]]
        self._rows = rows
        if changed:
            self.num_redraws += 1
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        if y >= len(self._rows):
            return Strip.blank(self.size.width, Style.null())
        return Strip([Segment(text, style) for text, style in self._rows[y]]).adjust_cell_length(self.size.width)

    async def _on_key(self, event: events.Key) -> None:
        """While a filter is typed, keys are letters of it. It begins here and not in a binding, which would come after
        the letters of a fast typist."""
        if self.session.typed is None and event.character != "/":
            await super()._on_key(event)
            return
        event.stop()
        event.prevent_default()
        if self.session.typed is None:
            self.session.typed = self.session.pattern
        elif event.key == "enter":
            self.session.pattern, self.session.typed = self.session.typed, None
            self.post_message(self.Entered())
        elif event.key == "escape":
            self.session.typed = None
        elif event.key in ("backspace", "ctrl+h"):
            self.session.typed = self.session.typed[:-1]
        elif event.key == "ctrl+u":
            self.session.typed = ""
        elif event.is_printable and event.character is not None:
            self.session.typed += event.character
        self.post_message(self.Typed())

    def on_paste(self, event: events.Paste) -> None:
        if self.session.typed is not None:
            self.session.typed += " ".join(event.text.split())[:200]
            self.post_message(self.Typed())

    def on_resize(self, event: events.Resize) -> None:
        self.repaint()

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(event.x, event.y))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self.post_message(self.Hovered(event.x, event.y))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.post_message(self.Scrolled(3))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.post_message(self.Scrolled(-3))
