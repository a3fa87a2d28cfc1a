"""A grid of characters that nothing can break out of."""

from rich.cells import cell_len
from rich.style import Style

from deep_delta.tui.drawing.canvas import Canvas, Rect, shortened


def test_what_is_put_outside_is_cut_off():
    canvas = Canvas(4, 2)
    canvas.put(-2, 0, "abcdefgh")
    canvas.put(0, 5, "never")
    canvas.put_right(4, 1, "xyz")
    assert canvas.text() == "cdef\n xyz"


def test_wide_characters_take_two_cells_and_are_never_halved():
    canvas = Canvas(6, 1)
    canvas.put(0, 0, "層x")
    assert canvas.text() == "層x"
    canvas.put(1, 0, "y")  # the second half: the whole character goes
    assert canvas.text() == " yx"
    canvas.put(5, 0, "層")  # no room for it
    assert sum(cell_len(text) for text, _ in canvas.runs(0)) == 6


def test_control_characters_do_not_reach_the_terminal():
    canvas = Canvas(20, 1)
    canvas.put(0, 0, "a\x1b[31m\n\tb")
    assert canvas.text() == "a�[31m��b"


def test_combining_marks_stay_with_their_letter():
    canvas = Canvas(3, 1)
    canvas.put(0, 0, "e\u0301x")
    assert canvas.text() == "e\u0301x"


def test_text_is_shortened_by_cells():
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("層層層", 4) == "層…"
    assert shortened("abc", 0) == ""
    assert shortened("abc", 3) == "abc"


def test_runs_join_cells_of_one_style():
    canvas = Canvas(4, 1)
    red = Style(color="red")
    canvas.put(1, 0, "ab", red)
    assert canvas.runs(0) == [(" ", Style.null()), ("ab", red), (" ", Style.null())]
    canvas.restyle(Rect(0, 0, 4, 1), Style(bold=True))
    assert all(style.bold for _, style in canvas.runs(0))


def test_a_canvas_without_cells():
    canvas = Canvas(0, 0)
    assert canvas.put(0, 0, "abc") == 3
    assert canvas.text() == ""
