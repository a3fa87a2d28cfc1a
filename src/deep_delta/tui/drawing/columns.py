"""Tables of text that fit a width: the least important columns give way first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.style import Style

from deep_delta.tui.drawing.canvas import PLAIN, shortened

Spans = list[tuple[str, Style]]


class Column(NamedTuple):
    """How a column is shown; those of the highest `rank` give way first, those of rank 0 never."""

    title: str
    rank: int = 0
    is_text: bool = False
    widest: int = 60


class Cell(NamedTuple):
    text: str
    style: Style = PLAIN
    parts: tuple[tuple[str, Style], ...] = ()
    """in place of text and style, where a cell has several styles"""

    @property
    def spans(self) -> Sequence[tuple[str, Style]]:
        return self.parts or ((self.text, self.style),)

    @property
    def width(self) -> int:
        return sum(cell_len(text) for text, _ in self.spans)


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, head: Style, chosen: tuple[int, Style] | None
) -> list[Spans]:
    """A head and one line a row. chosen: the number of a row and the style to lay over it."""
    kept = _fitting(columns, rows, width)
    widths = [_width(columns[index], [row[index] for row in rows]) for index in kept]
    first = next((place for place, index in enumerate(kept) if columns[index].is_text), 0)
    widths[first] -= max(0, sum(widths) + 2 * (len(kept) - 1) - width)
    titles = [Cell(columns[index].title, head) for index in kept]
    lines = [_line(titles, [columns[index] for index in kept], widths)]
    for number, row in enumerate(rows):
        line = _line([row[index] for index in kept], [columns[index] for index in kept], widths)
        if chosen is not None and number == chosen[0]:
            line = [(text, style + chosen[1]) for text, style in line]
        lines.append(line)
    return lines


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    kept = [index for index, _ in enumerate(columns) if any(row[index].width for row in rows) or not rows]
    while True:
        used = sum(_width(columns[index], [row[index] for row in rows]) for index in kept) + 2 * (len(kept) - 1)
        least = max((columns[index].rank for index in kept), default=0)
        if used <= width or least == 0:
            return kept
        kept.remove(max(kept, key=lambda index: (columns[index].rank, index)))


def _width(column: Column, cells: Sequence[Cell]) -> int:
    return min(column.widest, max([cell_len(column.title), *(cell.width for cell in cells)]))


def _line(cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int]) -> Spans:
    spans: Spans = []
    for place, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        width = max(0, width)
        fits = cell.width <= width
        shown = (
            list(cell.spans)
            if fits
            else [(shortened("".join(text for text, _ in cell.spans), width), cell.spans[0][1])]
        )
        pad = " " * (width - sum(cell_len(text) for text, _ in shown))
        gap = "  " if place + 1 < len(cells) else ""
        spans += [*shown, (pad + gap, PLAIN)] if column.is_text else [(pad, PLAIN), *shown, (gap, PLAIN)]
    return [span for span in spans if span[0]]
