"""What the commands show: results on stdout; notes and progress on stderr. Imported inside the commands only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        """The reader has left, as in `ddl compare … | head`: `main` gives the exit code, and not rich."""
        raise BrokenPipeError


out = _Screen(highlight=False)
notes = _Screen(stderr=True, highlight=False)

Cell = str | Text


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], note: str = "") -> None:
    """Print a table that reads without colour and in 80 columns; a column named "<name" is text, others are numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_text = column.startswith("<")
        made.add_column(
            column.removeprefix("<"), justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold"
        )
    for row in rows:
        made.add_row(*row)
    out.print(Text(title, "bold"))
    out.print(made)
    if note:
        out.print(Text(note, "dim"))
    out.print()


def show_fitting(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], note: str = "") -> None:
    """`show_table` in as many tables as the terminal's width needs, each with the first column."""
    rows = [list(row) for row in rows]
    widths = [
        max(len(column.removeprefix("<")), *(len(row[place]) for row in rows)) + 3
        for place, column in enumerate(columns)
    ]
    first = 1
    while first < len(columns):
        last, room = first + 1, out.width - widths[0] - widths[first]
        while last < len(columns) and widths[last] <= room:
            room -= widths[last]
            last += 1
        chosen = [0, *range(first, last)]
        ends = last == len(columns)
        parts = [[row[place] for place in chosen] for row in rows]
        show_table(title, [columns[place] for place in chosen], parts, note if ends else "")
        first = last


def count(number: float) -> str:
    """1,234 · 56.7k · 1.2M: a large number in at most six characters."""
    for least, size, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if number >= least:
            return f"{number / size:.1f}{unit}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """0:07 · 12:34 · 5:06:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
