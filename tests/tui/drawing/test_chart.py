"""Charts, read from the characters that they are made of."""

import numpy as np
import pytest

from deep_delta.explore import Line
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.chart import ChartStyle, Series, column_of, draw_chart
from deep_delta.tui.drawing.palette import palette
from deep_delta.tui.drawing.scale import Scale

PALETTE = palette("dark")


def drawn(y, *, x=None, width=60, height=12, **style):
    """A chart of one line: its inside as rows of text, and the whole canvas."""
    line = y if isinstance(y, Line) else line_of(y, x)
    canvas = Canvas(width, height)
    shown = ChartStyle(title="t", x=Scale(float(line.x[0]), max(float(line.x[-1]), float(line.x[0]) + 1)), **style)
    plot = draw_chart(canvas, canvas.rect, [Series(0, line)], shown, PALETTE)
    return inside(canvas, plot), canvas


def line_of(y, x=None):
    y = np.asarray(y, float)
    return Line.of(np.arange(len(y), dtype=float) if x is None else np.asarray(x, float), y)


def inside(canvas, plot):
    rows = canvas.text().split("\n")[plot.y : plot.bottom]
    return [row[plot.x : plot.right].ljust(plot.width) for row in rows]


def is_ink(char):
    return char not in " ┈─│"


def inked_columns(rows):
    return {column for row in rows for column, char in enumerate(row) if is_ink(char)}


def test_a_line_reaches_from_corner_to_corner():
    rows, _ = drawn(np.linspace(0, 1, 100))
    assert is_ink(rows[-1][0])
    assert is_ink(rows[0][-1])
    assert inked_columns(rows) == set(range(len(rows[0])))


def test_one_point_is_drawn_by_its_mark():
    rows, _ = drawn([3.0])
    assert sum(row.count("●") for row in rows) == 1


def test_points_that_nothing_joins_have_their_mark():
    """Values that are not finite between them, so that no stroke shows them."""
    rows, _ = drawn([1.0, np.nan, 2.0, np.nan, 3.0])
    assert sum(row.count("●") for row in rows) == 3


@pytest.mark.parametrize("at", [1, 5_000, 9_998])
def test_a_spike_of_one_step_in_ten_thousand_is_seen(at):
    y = np.ones(10_000)
    y[at] = 50.0
    rows, _ = drawn(y)
    column = round(at / 9_999 * (len(rows[0]) - 1))
    assert any(is_ink(char) for char in rows[0][max(0, column - 1) : column + 2])
    assert sum(is_ink(char) for char in rows[0]) <= 2


def test_a_value_that_is_not_finite_is_marked_in_its_column_and_breaks_the_line():
    y = np.ones(60)
    y[20:40] = np.nan
    rows, _ = drawn(y)
    width = len(rows[0])
    left, right = round(20 / 59 * (width - 1)), round(39 / 59 * (width - 1))
    assert rows[0][left:right].count("×") >= (right - left) // 2
    assert not any(is_ink(char) for row in rows[1:] for char in row[left + 1 : right - 1])
    assert is_ink("".join(row[left - 2] for row in rows).strip(" ┈")[0])


def test_one_missing_step_among_thousands_is_marked():
    y = np.ones(5_000)
    y[2_500] = np.nan
    rows, _ = drawn(y)
    assert rows[0].count("×") == 1


def test_a_gap_stays_a_gap():
    line = line_of(np.ones(20), np.r_[0:10, 40:50])
    line.gap[10] = True
    rows, _ = drawn(line)
    between = {column for column in inked_columns(rows) if 14 < column < 42}
    assert not between
    joined, _ = drawn(line_of(np.ones(20), np.r_[0:10, 40:50]))
    assert {column for column in inked_columns(joined) if 14 < column < 42}


def test_a_logarithmic_axis_spreads_decades_evenly_and_marks_what_it_cannot_show():
    y = np.array([1.0, 10.0, 100.0, 0.0, -5.0, 1000.0])
    rows, canvas = drawn(y, log=True, height=14)
    assert rows[-1].count("▾") == 2
    assert "▾ not above 0" in canvas.text()
    for label in ("1", "10", "100", "1000"):
        assert f"{label}┤" in canvas.text()


def test_a_logarithmic_axis_of_nothing_above_zero_becomes_linear_and_says_so():
    _, canvas = drawn([-1.0, -2.0, 0.0], log=True)
    assert "nothing is above 0" in canvas.text()


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e300])
def test_any_magnitude_is_drawn_and_labelled(scale):
    rows, canvas = drawn(np.linspace(1, 3, 50) * scale)
    assert is_ink(rows[-1][0])
    assert is_ink(rows[0][-1])
    labels = [row.split("┤")[0].strip() for row in canvas.text().split("\n") if "┤" in row]
    assert len(set(labels)) == len(labels) > 1


def test_a_constant_line_lies_in_the_middle():
    rows, _ = drawn([2.0] * 30)
    inked = [index for index, row in enumerate(rows) if any(map(is_ink, row))]
    assert inked in ([4], [5], [4, 5])


def test_nothing_finite_says_so():
    rows, canvas = drawn([np.nan, np.nan], empty="nothing of this yet")
    assert "no value is finite" in canvas.text()
    assert rows[0].count("×") == 2


def test_no_point_says_so():
    canvas = Canvas(60, 12)
    style = ChartStyle(title="t", x=Scale(0.0, 1.0), empty="nothing of this yet")
    draw_chart(canvas, canvas.rect, [], style, PALETTE)
    assert "nothing of this yet" in canvas.text()


def test_behind_the_mean_of_many_points_a_spike_is_still_seen():
    y = np.ones(10_000)
    y[7_000] = 50.0
    line, canvas, style = line_of(y), Canvas(60, 12), ChartStyle(title="t", x=Scale(0.0, 9_999.0))
    plot = draw_chart(canvas, canvas.rect, [Series(0, line, line, is_mean=True)], style, PALETTE)
    assert sum(map(is_ink, inside(canvas, plot)[0])) == 1
    assert PALETTE.shade(0) in {run_style for _, run_style in canvas.runs(plot.y)}


def test_the_cursor_stands_at_its_value():
    canvas = Canvas(60, 12)
    x = Scale(0.0, 100.0)
    style = ChartStyle(title="t", x=x, cursor=50.0)
    plot = draw_chart(canvas, canvas.rect, [Series(0, line_of([1, 2], [0, 100]))], style, PALETTE)
    column = column_of(plot, x, 50.0) - plot.x
    assert sum(row[column] == "│" for row in inside(canvas, plot)) >= plot.height - 2


def test_the_chosen_line_lies_on_top_of_others():
    canvas = Canvas(60, 12)
    lines = [Series(0, line_of([1, 1])), Series(1, line_of([1, 1]), is_chosen=True)]
    draw_chart(canvas, canvas.rect, lines, ChartStyle(title="t", x=Scale(0.0, 1.0)), PALETTE)
    styles = {style for y in range(12) for text, style in canvas.runs(y) if any("⠀" < char <= "⣿" for char in text)}
    assert styles == {PALETTE.line(1)}


def test_a_band_is_filled_behind_its_mean():
    mean = line_of(np.full(40, 2.0))
    band = mean._replace(low=mean.mean - 1, high=mean.mean + 1)
    canvas = Canvas(60, 14)
    style = ChartStyle(title="t", x=Scale(0.0, 39.0))
    plot = draw_chart(canvas, canvas.rect, [Series(0, mean, band, is_band=True)], style, PALETTE)
    assert all(sum(map(is_ink, row)) > plot.width // 2 for row in inside(canvas, plot))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 1), (1, 9), (8, 3), (24, 4)], ids=str)
def test_any_size_is_drawn(size):
    canvas = Canvas(*size)
    style = ChartStyle(title="loss", x=Scale(0.0, 9.0), cursor=3.0, note="note")
    draw_chart(canvas, Rect(0, 0, *size), [Series(0, line_of(range(10)))], style, PALETTE)
