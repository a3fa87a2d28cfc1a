"""Below view 3: what `ddl inspect` saved, as tables."""

from __future__ import annotations

import textwrap

from deep_delta.explore.tables import Table, gates_table, interventions_table
from deep_delta.tui.drawing.columns import Cell, Column, Spans, table_lines
from deep_delta.tui.drawing.numbers import number
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.session import Session


def result_lines(session: Session, width: int, palette: Palette) -> list[Spans]:
    """A section a file."""
    lines: list[Spans] = []
    for saved in session.exploration.inspections:
        lines += [[], [(saved.path.name, palette.title), ("  inspection", palette.dim)]]
        for table in (interventions_table(saved.record), gates_table(saved.record)):
            lines += shown(table, width, palette) if table.rows else []
    return lines


def shown(table: Table, width: int, palette: Palette) -> list[Spans]:
    """Any table: its first column stays, the last ones give way first."""
    texts = [any(isinstance(row[index], str) for row in table.rows) for index in range(len(table.columns))]
    columns = [Column(name, rank, texts[rank], widest=50) for rank, name in enumerate(table.columns)]
    cells = [[Cell(_text(value), palette.text) for value in row] for row in table.rows]
    lines: list[Spans] = [[], [(table.name, palette.title)]]
    lines += table_lines(columns, cells, width, palette.dim, None)
    lines += [[(part, palette.dim)] for part in textwrap.wrap(table.note, max(20, width))]
    return lines


def _text(value: str | int | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else value
