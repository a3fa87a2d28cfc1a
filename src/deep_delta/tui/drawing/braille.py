"""Strokes of braille dots: each character cell is two dots wide and four high."""

# H rows and W columns of cells; dots are [4H, 2W], row 0 at the top

from __future__ import annotations

import numpy as np

from deep_delta.explore import Line

_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_BLANK = 0x2800
NOBODY = -1


class Dots:
    """Dots, and whose colour each cell has: a cell has one colour, so what is drawn later has it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.bits = np.zeros((height, width), np.uint8)
        self.owner = np.full((height, width), NOBODY)

    def draw(self, mask: np.ndarray, owner: int, *, replace: bool = False) -> None:
        """mask: bool [4H, 2W]. replace: dots that are there make way in the cells that it touches."""
        bits = (mask.reshape(self.height, 4, self.width, 2) * _BITS[:, None, :]).sum(axis=(1, 3), dtype=np.uint8)
        touched = bits > 0
        self.bits = np.where(touched & replace, bits, self.bits | bits)
        self.owner = np.where(touched, owner, self.owner)

    def char(self, x: int, y: int) -> str:
        return chr(_BLANK + int(self.bits[y, x]))


def stroke(
    columns: Line, rows: int, place: tuple[np.ndarray, np.ndarray, np.ndarray], *, is_band: bool = False
) -> np.ndarray:
    """Dots [rows, C] of a line that was decimated to C dot columns.

    place: low, mean and high of each column as a part of the height. In every column the stroke goes from the least to
    the greatest value; from column to column it joins the means, over columns without a point too, but never across a
    gap or a value that is not finite. is_band: least and greatest are joined too.
    """
    low, mean, high = (_row(each, rows) for each in place)
    has = np.isfinite(columns.mean)
    if not has.any():
        return np.zeros((rows, columns.size), bool)
    top, bottom, middle = (np.where(has, each, 0.0) for each in (high, low, mean))
    index = np.flatnonzero(has)
    joined = np.zeros(columns.size, bool)  # column c is joined to column c − 1
    empty_and_bad = np.cumsum(columns.bad & ~has)
    for before, after in zip(index[:-1].tolist(), index[1:].tolist(), strict=True):
        if columns.gap[after] or empty_and_bad[after] > empty_and_bad[before]:
            continue
        joined[before + 1 : after + 1] = True
        if after > before + 1:
            between = np.arange(before + 1, after)
            for bound in (top, bottom, middle) if is_band else (middle,):
                bound[between] = np.interp(between, (before, after), (bound[before], bound[after]))
            if not is_band:
                top[between] = bottom[between] = middle[between]
            has[between] = True
    half = (middle[1:] + middle[:-1]) / 2
    for part in (slice(1, None), slice(None, -1)):  # each column reaches halfway to its neighbours
        reach = joined[1:]
        top[part] = np.where(reach, np.minimum(top[part], half), top[part])
        bottom[part] = np.where(reach, np.maximum(bottom[part], half), bottom[part])
    first, last = np.rint(top), np.rint(bottom)
    row = np.arange(rows)[:, None]
    return (row >= first) & (row <= last) & has


def area(columns: Line, rows: int, place: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Dots [rows, C], every second one, of all between the least and the greatest value of each column."""
    solid = stroke(columns, rows, place, is_band=True)
    row, column = np.indices(solid.shape)
    return solid & ((row + column) % 2 == 0)


def _row(place: np.ndarray, rows: int) -> np.ndarray:
    """Where a part of the height is, as a row of dots; NaN stays."""
    return (1 - np.clip(place, 0.0, 1.0)) * (rows - 1)
