"""A grid of styled characters, and rectangles of it."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len, get_character_cell_size
from rich.style import Style

PLAIN = Style.null()


class Rect(NamedTuple):
    """Part of a canvas, in cells; empty where width or height is not positive."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def is_empty(self) -> bool:
        return self.width < 1 or self.height < 1

    def inset(self, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> Rect:
        return Rect(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)

    def holds(self, x: int, y: int) -> bool:
        return self.x <= x < self.right and self.y <= y < self.bottom


class Canvas:
    """[height, width] cells. What is put outside is cut off; a wide character takes two cells."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = max(0, width), max(0, height)
        self._chars = [[" "] * self.width for _ in range(self.height)]
        self._styles = [[PLAIN] * self.width for _ in range(self.height)]

    @property
    def rect(self) -> Rect:
        return Rect(0, 0, self.width, self.height)

    def put(self, x: int, y: int, text: str, style: Style = PLAIN, *, limit: int | None = None) -> int:
        """Write `text` from (x, y) on, at most `limit` cells of it (shortened with … where it is longer), and return
        where it ended. Characters that would move a terminal's cursor become �."""
        if limit is not None:
            text = shortened(text, limit)
        if not 0 <= y < self.height:
            return x + cell_len(text)
        chars, styles = self._chars[y], self._styles[y]
        for char in text:
            size = 1 if char.isascii() else get_character_cell_size(char)
            if size == 0 and char.isprintable():
                if 0 < x <= self.width:
                    chars[x - 1] += char  # a combining mark stays with its letter
                continue
            if not char.isprintable():
                char, size = "�", 1
            if x >= 0 and x + size <= self.width:
                self._free(chars, x)
                chars[x], styles[x] = char, style
                if size == 2:
                    self._free(chars, x + 1)
                    chars[x + 1], styles[x + 1] = "", style
            x += size
        return x

    def put_right(self, right: int, y: int, text: str, style: Style = PLAIN, *, limit: int | None = None) -> int:
        """Write `text` so that it ends before the column `right`; return where it began."""
        if limit is not None:
            text = shortened(text, limit)
        begin = right - cell_len(text)
        self.put(begin, y, text, style)
        return begin

    def fill(self, rect: Rect, char: str, style: Style) -> None:
        for y in range(rect.y, rect.bottom):
            self.put(rect.x, y, char * rect.width, style)

    def restyle(self, rect: Rect, style: Style) -> None:
        """Lay `style` over what is there."""
        for y in range(max(0, rect.y), min(self.height, rect.bottom)):
            row = self._styles[y]
            for x in range(max(0, rect.x), min(self.width, rect.right)):
                row[x] = row[x] + style

    def is_blank(self, x: int, y: int) -> bool:
        return 0 <= y < self.height and 0 <= x < self.width and self._chars[y][x] == " "

    def runs(self, y: int) -> list[tuple[str, Style]]:
        """The row as stretches of one style."""
        cells = zip(self._chars[y], self._styles[y], strict=True)
        return [("".join(char for char, _ in run), style) for style, run in groupby(cells, key=lambda cell: cell[1])]

    def text(self) -> str:
        """Characters alone, a line each, without what is blank at the ends."""
        return "\n".join("".join(row).rstrip() for row in self._chars)

    def _free(self, chars: list[str], x: int) -> None:
        """A wide character that loses one of its cells becomes blank."""
        if chars[x] == "" and x > 0:
            chars[x - 1] = " "
        if x + 1 < self.width and chars[x + 1] == "":
            chars[x + 1] = " "


def shortened(text: str, limit: int) -> str:
    """At most `limit` cells, the last of them … where something was cut off."""
    if limit < 1:
        return ""
    if cell_len(text) <= limit:
        return text
    kept, used = [], 0
    for char in text:
        used += get_character_cell_size(char)
        if used > limit - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"
