"""Draws tui.svg: what `ddl tui` shows of its made-up data. `python docs/images/screens.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deep_delta.explore import open_paths
from deep_delta.explore.demonstration import demonstration
from deep_delta.tui.drawing.palette import palette
from deep_delta.tui.drawing.svg import svg
from deep_delta.tui.frame import paint
from deep_delta.tui.session import Session

OUT = Path(__file__).parent / "tui.svg"
SIZE = (120, 36)


def draw() -> str:
    """The curves of six variants with two seeds, a cursor through all panels."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(open_paths(demonstration(Path(folder))).read_all(), chosen="ddl-ec", cursor=280.0)
        dark = palette("dark")
        return svg(paint(session, *SIZE, dark).canvas, dark, "ddl tui: training curves of six variants")


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8")
