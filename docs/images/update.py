"""Draws update.svg, the picture of the delta update: python docs/images/update.py

Every cell is a number of one real update, X' = X + β k (vᵀ − kᵀX) at β = 1. Colours are mid-tones on a transparent
ground, so that the picture reads on white pages and on dark ones.
"""

import math
import random
from pathlib import Path

WIDTH, HEIGHT, CELL = 960, 520, 20
INK, POSITIVE, NEGATIVE = "#7b8087", "#3b82f6", "#e8772e"
BANDS = ("#8b93a1", "#5b8def", "#2fa37c", "#c98a1b", "#d1584f")
REGIMES = ("near-identity", "interpolating", "near-projection", "near-reflection", "strong-reflection")
BOUNDARIES = (0.0, 0.3, 0.7, 1.3, 1.7, 2.0)

Matrix = list[list[float]]


def text(x: float, y: float, words: str, size: int = 15, style: str = "", fill: str = INK) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="middle" {style}>{words}</text>'


def maths(x: float, y: float, formula: str, size: int = 19) -> str:
    return text(x, y, formula, size, 'font-family="Georgia, DejaVu Serif, serif" font-style="italic"')


def arrow(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="2" marker-end="url(#head)"/>'


def line(x1: float, y1: float, x2: float, y2: float, style: str = "") -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" stroke-width="1.5" {style}/>'


def cells(x: float, y: float, matrix: Matrix) -> str:
    """A matrix as coloured cells, its upper left corner at (x, y)."""
    drawn = []
    for i, row in enumerate(matrix):
        for j, number in enumerate(row):
            fill, opacity = POSITIVE if number > 0 else NEGATIVE, min(1.0, 0.08 + abs(number) / 1.6)
            place = f'x="{x + j * CELL:g}" y="{y + i * CELL:g}" width="{CELL}" height="{CELL}"'
            paint = f'fill="{fill}" fill-opacity="{opacity:.2f}" stroke="{INK}" stroke-width="0.8"'
            drawn.append(f"<rect {place} {paint}/>")
    return "".join(drawn)


def update() -> list[str]:
    """The upper half: the state, what is read of it, the comparison, what is written, the new state."""
    draw, rows, columns = random.Random(3), range(6), range(4)
    X = [[draw.gauss(0, 0.8) for _ in columns] for _ in rows]
    k = [draw.gauss(0, 1) for _ in rows]
    length = math.sqrt(sum(one * one for one in k))
    k = [one / length for one in k]
    v = [draw.gauss(0, 1.2) for _ in columns]
    read = [sum(k[i] * X[i][j] for i in rows) for j in columns]
    error = [v[j] - read[j] for j in columns]
    write = [[k[i] * error[j] for j in columns] for i in rows]
    new = [[X[i][j] + write[i][j] for j in columns] for i in rows]

    top, middle, column_k = 78, 138, [[one] for one in k]
    parts = [
        cells(40, top, X) + arrow(f"M128 {middle} H176"),
        cells(186, top, column_k) + arrow(f"M214 {middle} H234") + cells(242, middle - 10, [read]),
        arrow(f"M330 {middle} H360"),
        cells(392, middle - 46, [v]) + cells(392, middle - 10, [read]) + line(384, middle + 19, 480, middle + 19),
        cells(392, middle + 28, [error]) + maths(380, middle + 5, "−", 18),
        arrow(f"M486 {middle} H536"),
        cells(546, top, column_k) + cells(574, top - 28, [error]) + cells(574, top, write),
        arrow(f"M662 {middle} H712"),
        f'<circle cx="732" cy="{middle}" r="13" fill="none" stroke="{INK}" stroke-width="2"/>',
        line(725, middle, 739, middle) + line(732, middle - 7, 732, middle + 7),
        arrow(f"M750 {middle} H800") + cells(810, top, new),
        arrow(f"M80 {top - 8} V36 Q80 24 92 24 H720 Q732 24 732 36 V{middle - 20}"),
        maths(196, top - 8, "k") + maths(556, top - 8, "k") + maths(487, middle - 29, "vᵀ", 17),
        maths(687, middle - 10, "× β", 17),
    ]
    for x, formula, words in (
        (80, "X", "state, D × V"),
        (254, "kᵀX", "read along k"),
        (432, "vᵀ − kᵀX", "compare with v"),
        (604, "β k (vᵀ − kᵀX)", "write back"),
        (850, "X′", "new state"),
    ):
        parts += [maths(x, 234, formula), text(x, 257, words)]
    return [*parts, text(480, 286, "the cells are one real update at β = 1: blue above zero, orange below", 13)]


def mirror(x: float, y: float, beta: float) -> str:
    """A state and its image under I − βkkᵀ: what is orthogonal to k (the dashed line) stays."""
    along, up = 26, 30
    target = y - up * (1 - beta)
    parts = [
        line(x - 52, y, x + 52, y, 'stroke-dasharray="4 4"'),
        f'<circle cx="{x + along}" cy="{y - up}" r="5" fill="none" stroke="{INK}" stroke-width="2"/>',
        f'<circle cx="{x + along}" cy="{target:g}" r="5" fill="{POSITIVE}"/>',
    ]
    if beta:
        parts.append(arrow(f"M{x + along} {y - up + 6} V{target - 8:g}"))
    return "".join(parts) + arrow(f"M{x - 26} {y} V{y - up + 2}") + maths(x - 38, y - 14, "k", 16)


def gate() -> list[str]:
    """The lower half: the line of β from identity over projection to reflection, with the five regimes."""
    left, scale, y = 66, 414, 440
    parts = []
    for colour, name, low, high in zip(BANDS, REGIMES, BOUNDARIES, BOUNDARIES[1:], strict=False):
        x, width = left + scale * low, scale * (high - low)
        parts.append(f'<rect x="{x:g}" y="{y}" width="{width:g}" height="24" fill="{colour}"/>')
        parts.append(text(x + width / 2, y + 16, name, 12, 'font-weight="600"', "#ffffff"))
    for beta in sorted({*BOUNDARIES, 1.0}):
        x = left + scale * beta
        parts.append(line(x, y + 24, x, y + 31) + text(x, y + 47, f"{beta:g}", 14))
    parts.append(maths(left - 34, y + 20, "β"))
    for beta, name, eigenvalue in ((0, "identity", "1"), (1, "projection", "0"), (2, "reflection", "−1")):
        x = left + scale * beta
        parts.append(mirror(x, 346, beta))
        parts.append(text(x, y - 34, name, 16, 'font-weight="600"'))
        parts.append(maths(x, y - 12, f"1 − β = {eigenvalue}", 15))
    return parts


def picture() -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">\n'
        "<title>The delta update: read along k, compare with v, write the gated difference back</title>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 Z" fill="{INK}"/></marker></defs>\n'
    )
    return head + "\n".join([*update(), *gate()]) + "\n</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
