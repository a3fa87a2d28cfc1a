"""A canvas as one SVG file that needs no font for its dots and blocks, and nothing from anywhere else."""

from __future__ import annotations

from html import escape

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import TerminalTheme

from deep_delta.tui.drawing.canvas import Canvas
from deep_delta.tui.drawing.palette import Palette

_WIDTH, _HEIGHT = 9.0, 18.0
_MARGIN = 12.0
_FONT = "ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace"
_BRAILLE = range(0x2800, 0x2900)
_BLOCKS = {"▀": (0.0, 0.5), "▄": (0.5, 1.0), "█": (0.0, 1.0)}
_NORMAL = [
    (12, 12, 12), (197, 15, 31), (19, 161, 14), (193, 156, 0), (0, 55, 218), (136, 23, 152), (58, 150, 221),
    (204, 204, 204),
]  # fmt: skip
_BRIGHT = [
    (118, 118, 118), (231, 72, 86), (22, 198, 12), (249, 241, 165), (59, 120, 255), (180, 0, 158), (97, 214, 214),
    (242, 242, 242),
]  # fmt: skip


def svg(canvas: Canvas, palette: Palette, title: str) -> str:
    """The whole canvas; the sixteen colours of a terminal as common terminals show them."""
    light = palette.name.endswith("light")
    ground, ink = ((255, 255, 255), (31, 35, 40)) if light else ((20, 23, 28), (216, 222, 230))
    theme = TerminalTheme(ground, ink, _NORMAL, _BRIGHT)
    width, height = canvas.width * _WIDTH + 2 * _MARGIN, canvas.height * _HEIGHT + 2 * _MARGIN
    shapes: dict[str, list[str]] = {}
    texts: list[str] = []
    for y in range(canvas.height):
        x = 0
        for text, style in canvas.runs(y):
            _draw_run(x, y, text, style, theme, shapes, texts)
            x += cell_len(text)
    paths = "".join(f'<path fill="{color}" d="{"".join(parts)}"/>\n' for color, parts in shapes.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n'
        f'<rect width="100%" height="100%" rx="8" fill="{_rgb(ground)}"/>\n'
        f'<g transform="translate({_MARGIN:g} {_MARGIN:g})">\n{paths}'
        f'<g font-family="{_FONT}" font-size="14.5" xml:space="preserve">\n{"".join(texts)}</g>\n</g>\n</svg>\n'
    )


def _draw_run(
    x: int, y: int, text: str, style: Style, theme: TerminalTheme, shapes: dict[str, list[str]], texts: list[str]
) -> None:
    color, ground = _colors(style, theme)
    cells = cell_len(text)
    if ground is not None:
        shapes.setdefault(ground, []).append(_box(x * _WIDTH, y * _HEIGHT, cells * _WIDTH, _HEIGHT))
    begin, word = x, ""
    for index, char in enumerate(text):
        joins = char == " " and word and text[index + 1 : index + 2].strip() and not _is_drawn(text[index + 1])
        if _is_drawn(char) or (char == " " and not joins):
            _flush(begin, y, word, color, style, texts)
            word = ""
            shapes.setdefault(color, []).extend(_shape(x, y, char))
            x += 1
            begin = x
        else:
            word += char
            x += cell_len(char)
    _flush(begin, y, word, color, style, texts)


def _is_drawn(char: str) -> bool:
    return ord(char) in _BRAILLE or char in _BLOCKS


def _flush(x: int, y: int, word: str, color: str, style: Style, texts: list[str]) -> None:
    if word:
        bold = ' font-weight="bold"' if style.bold else ""
        faint = ' opacity="0.6"' if style.dim else ""
        line = ' text-decoration="underline"' if style.underline else ""
        texts.append(
            f'<text x="{x * _WIDTH:g}" y="{y * _HEIGHT + 13.5:g}" textLength="{cell_len(word) * _WIDTH:g}" '
            f'lengthAdjust="spacingAndGlyphs" fill="{color}"{bold}{faint}{line}>{escape(word)}</text>\n'
        )


def _shape(x: int, y: int, char: str) -> list[str]:
    left, top = x * _WIDTH, y * _HEIGHT
    if char in _BLOCKS:
        first, last = _BLOCKS[char]
        return [_box(left, top + first * _HEIGHT, _WIDTH, (last - first) * _HEIGHT)]
    if char == " ":
        return []
    bits = ord(char) - _BRAILLE.start
    dots = [(0, 0, 1), (0, 1, 2), (0, 2, 4), (1, 0, 8), (1, 1, 16), (1, 2, 32), (0, 3, 64), (1, 3, 128)]
    return [
        _box(left + (column + 0.5) * _WIDTH / 2 - 1.1, top + (row + 0.5) * _HEIGHT / 4 - 1.1, 2.2, 2.2)
        for column, row, bit in dots
        if bits & bit
    ]


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:.4g} {y:.4g}h{width:g}v{height:g}h-{width:g}z"


def _colors(style: Style, theme: TerminalTheme) -> tuple[str, str | None]:
    """Of the characters, and behind them (None: the ground's)."""
    front = _rgb((style.color or Color.default()).get_truecolor(theme, foreground=True))
    back = None if style.bgcolor is None else _rgb(style.bgcolor.get_truecolor(theme, foreground=False))
    if style.reverse:
        return back or _rgb(theme.background_color), front
    return front, back


def _rgb(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
