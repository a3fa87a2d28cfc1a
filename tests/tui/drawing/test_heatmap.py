"""Heat maps, read from the colours of their cells."""

import numpy as np
from rich.style import Style

from deep_delta.tui.drawing.canvas import Canvas
from deep_delta.tui.drawing.heatmap import Heat, draw_heat, pool_rows, resample
from deep_delta.tui.drawing.palette import palette
from deep_delta.tui.drawing.scale import Scale
from deep_delta.tui.drawing.stack import Stack, draw_stack

DARK = palette("dark")


def heat(values, **rest):
    values = np.asarray(values, float)
    steps = np.arange(values.shape[1], dtype=float)
    rows = [f"{index} mixer" for index in range(len(values))]
    return Heat("β", values, steps, rows, Scale(0.0, max(1.0, steps[-1])), **rest)


def colors(canvas, y):
    """Of the upper and the lower half of each cell in a row."""
    found = []
    for text, style in canvas.runs(y):
        for char in text:
            upper, lower = style.color and style.color.name, style.bgcolor and style.bgcolor.name
            found.append((upper, lower) if char == "▀" else (char, None))
    return found


def test_two_rows_of_values_share_a_row_of_characters():
    canvas = Canvas(60, 3)
    plot = draw_heat(canvas, canvas.rect, heat([[0.0] * 9, [2.0] * 9], bounds=(0.0, 2.0)), DARK)
    assert plot.height == 1
    cells = colors(canvas, 1)[plot.x : plot.right]
    assert set(cells) == {(DARK.heat(0.0), DARK.heat(1.0))}


def test_a_single_outlier_among_thousands_of_evaluations_is_kept():
    values = np.ones((1, 4000))
    values[0, 1234] = 1.9
    picture = resample(values, np.arange(4000.0), Scale(0.0, 3999.0), 50, 1)
    assert picture[0].max() == 1.9
    assert np.argmax(picture[0]) == round(1234 / 3999 * 49)


def test_a_missing_value_stays_visible_among_thousands():
    values = np.ones((2, 4000))
    values[1, 77] = np.nan
    picture = resample(values, np.arange(4000.0), Scale(0.0, 3999.0), 50, 2)
    assert np.isnan(picture[1]).sum() == 1
    assert not np.isnan(picture[0]).any()


def test_columns_between_evaluations_show_the_last_one_and_before_the_first_nothing():
    picture = resample(np.array([[1.0, 2.0]]), np.array([50.0, 100.0]), Scale(0.0, 100.0), 101, 1)
    assert np.isnan(picture[0, :50]).all()
    assert (picture[0, 50:100] == 1.0).all()
    assert picture[0, 100] == 2.0


def test_more_sublayers_than_rows_are_averaged():
    pooled = pool_rows(np.arange(8.0).reshape(8, 1), 4)
    assert pooled.ravel().tolist() == [0.5, 2.5, 4.5, 6.5]


def test_without_colours_shades_tell_values_apart():
    canvas = Canvas(60, 7)
    plain = palette("ansi-dark", color=False)
    draw_heat(canvas, canvas.rect, heat([[0.1] * 5, [1.0] * 5, [1.9] * 5], bounds=(0.0, 2.0)), plain)
    assert {"▒", "█"} <= set(canvas.text())
    assert all(style.color is None and style.bgcolor is None for y in range(7) for _, style in canvas.runs(y))


def test_nothing_measured_says_so():
    canvas = Canvas(60, 5)
    draw_heat(canvas, canvas.rect, heat([[np.nan] * 3], empty="not measured"), DARK)
    assert "not measured" in canvas.text()


def test_equal_values_have_one_colour():
    canvas = Canvas(60, 4)
    plot = draw_heat(canvas, canvas.rect, heat([[0.7] * 3]), DARK)
    assert len(set(colors(canvas, plot.y)[plot.x : plot.right])) == 1


def test_shares_fill_their_part_of_each_column():
    canvas = Canvas(60, 12)
    shares = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    stack = Stack("r", shares, np.array([0.0, 100.0]), ("a", "b", "c"), ("a", "b", "c"), Scale(0.0, 100.0))
    plot = draw_stack(canvas, canvas.rect, stack, DARK)
    column = [colors(canvas, y)[plot.x + 3] for y in range(plot.y, plot.bottom)]
    assert column == [(DARK.heat(0.5),) * 2] * 5 + [(DARK.heat(0.0),) * 2] * 5
    assert colors(canvas, plot.y)[plot.right - 1] == (DARK.heat(1.0),) * 2


def test_shares_that_are_missing_are_passed_over():
    canvas = Canvas(60, 6)
    stack = Stack("r", np.full((2, 2), np.nan), np.array([0.0, 1.0]), "ab", "ab", Scale(0.0, 1.0), empty="none")
    draw_stack(canvas, canvas.rect, stack, DARK)
    assert "none" in canvas.text()
    assert Style.null() in {style for _, style in canvas.runs(3)}
