"""Whole pictures at four sizes, a few of them as snapshots.

`UPDATE_SNAPSHOTS=1 pytest tests/tui/test_frame.py` writes the snapshots anew; look at what changed.
"""

import os
from pathlib import Path

import pytest
from rich.cells import cell_len

from deep_delta.explore import open_paths
from deep_delta.tui.drawing.palette import THEMES, palette
from deep_delta.tui.frame import paint
from deep_delta.tui.session import VIEWS, Session
from tests.runs.test_inspection import INSPECTION

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = [(1, 1), (40, 10), (80, 24), (160, 50)]
PALETTE = palette("dark")


def text_of(session, width, height):
    return paint(session, width, height, PALETTE).canvas.text()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fills_every_size(demo, view, size):
    width, height = size
    for theme in THEMES:
        canvas = paint(Session(demo, view=view), width, height, palette(theme)).canvas
        for y in range(height):
            assert sum(cell_len(text) for text, _ in canvas.runs(y)) == width
    if width >= 40:
        assert view in canvas.text().split("\n")[0]
        assert "? help" in canvas.text().split("\n")[-1]


@pytest.mark.parametrize("size", [(40, 10), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("view", VIEWS)
def test_pictures_are_as_they_were(demo, view, size):
    found = text_of(Session(demo, view=view, chosen="ddl-cc"), *size) + "\n"
    file = SNAPSHOTS / f"{view}-{size[0]}x{size[1]}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8")


def test_every_odd_size_is_painted(demo):
    sizes = [(width, height) for width in range(1, 90, 7) for height in range(1, 30, 4)]
    for index, size in enumerate(sizes):
        session = Session(demo, view=VIEWS[index % 4], cursor=200.0, log=True, smoothing=0.9, tail=0.2)
        paint(session, *size, PALETTE)


def test_a_narrow_screen_has_a_line_for_the_list(session):
    assert "baseline" in text_of(session, 40, 10).split("\n")[1]
    assert "▸● baseline" in text_of(session, 80, 24)
    assert "▸" not in text_of(session, 40, 10)


def test_the_side_pane_shows_values_at_the_cursor(session):
    session.cursor = 100.0
    line = next(one for one in session.listed() if one.slug == "ddl").band("loss")
    row = next(row for row in text_of(session, 80, 24).split("\n") if "■ ddl " in row)
    assert f"{line.mean[99]:.3f}" in row


def test_a_difference_is_to_the_baseline(session):
    session.difference = True
    shown = text_of(session, 160, 50)
    assert "Δ training loss (nats)" in shown
    session.pattern = "baseline"
    lines = [row for row in text_of(session, 80, 24).split("\n") if "┤" in row]
    assert any("0" in row.split("┤")[0] for row in lines)


def test_what_keys_changed_is_said_above_the_chart(session):
    session.log, session.smoothing, session.tail, session.cursor = True, 0.9, 0.5, 300.0
    assert "steps 300 · log · smoothed 0.9 · last 50%" in text_of(session, 100, 24)


def test_the_filter_is_shown_while_it_is_typed(session):
    session.typed = "cc"
    shown = text_of(session, 80, 24)
    assert "/cc" in shown.split("\n")[-1]
    assert "baseline" not in shown
    session.typed = "("
    assert "no regular expression" in text_of(session, 80, 24).split("\n")[-1]


@pytest.mark.parametrize("view", ["curves", "spectra", "comparison"])
def test_a_filter_that_leaves_nothing_says_so(session, view):
    session.view, session.pattern = view, "nothing"
    assert "no variant matches the filter" in text_of(session, 80, 24)


def test_hidden_variants_are_not_drawn(session):
    session.hidden = {variant.label for variant in session.listed()}
    shown = text_of(session, 80, 24)
    assert "all variants are hidden" in shown
    assert "·" in next(row for row in shown.split("\n") if "▸" in row)


def test_a_variant_without_gates_says_so(session):
    session.view, session.chosen = "spectra", "baseline"
    assert "baseline has no gates" in text_of(session, 80, 24)


def test_the_ranking_says_what_is_not_resolved(session):
    session.view = "comparison"
    shown = text_of(session, 100, 40)
    ranking = session.exploration.experiments[0].ranking
    rows = [row.split() for row in shown.split("\n")]
    listed = [
        row[2] for row in rows if len(row) > 3 and row[0].isdigit() and row[2] in {v.slug for v in session.listed()}
    ]
    assert listed == [standing.variant for standing in ranking.standings]
    assert "not resolved: ddl-ec ~ ddl-tokenconv" in shown
    assert shown.count("ddl-cc-ec") >= 4, "pooled, each seed, what is not resolved"


def test_statuses_of_a_failed_and_a_running_variant(write_run):
    root = write_run("baseline", [3.0, 2.5], end="failed")
    write_run("ddl", [3.0, None, 2.5])
    session = Session(open_paths([root]).read_all(), view="comparison")
    shown = text_of(session, 140, 30)
    assert "failed after step 2 of 100: the loss is nan" in shown
    assert "running, step 3 of 100" in shown
    session.view = "curves"
    assert "×" in text_of(session, 80, 24), "the value that was not finite"


def test_a_run_of_one_step_is_drawn(write_run):
    session = Session(open_paths([write_run("ddl", [3.0])]).read_all())
    assert "●" in text_of(session, 40, 10).split("\n", 3)[3]
    assert "was not evaluated yet" in text_of(Session(session.exploration, view="spectra"), 80, 24)


def test_a_run_without_a_step_says_so(write_run):
    session = Session(open_paths([write_run("ddl", [])]).read_all())
    for view in VIEWS:
        session.view = view
        assert text_of(session, 80, 24)
    session.view = "curves"
    assert "no training step yet" in text_of(session, 80, 24)


def test_names_that_are_wide_or_odd(write_run):
    root = write_run("ddl", [3.0, 2.0])
    root = root.rename(root.with_name("層" * 60 + "\x1b[31m"))
    exploration = open_paths([root]).read_all()
    for width, height in SIZES:
        canvas = paint(Session(exploration, view="comparison"), width, height, PALETTE).canvas
        assert "\x1b" not in canvas.text()
        assert all(sum(cell_len(text) for text, _ in canvas.runs(y)) == width for y in range(height))


def test_an_inspection_is_shown_below_the_comparison(demo_paths, tmp_path):
    file = tmp_path / "inspection.json"
    file.write_text(INSPECTION.to_json())
    alone = Session(open_paths([file]), view="comparison")
    assert text_of(alone, 120, 30).split("\n")[1].strip() == "inspection.json  inspection"
    shown = text_of(Session(open_paths([*demo_paths, file]).read_all(), view="comparison"), 120, 60)
    assert shown.index("Each seed") < shown.index("Interventions") < shown.index("Gates")
    assert "the same change of the readout" in shown
