"""CSV and SVG of every view, under names that are free."""

import csv
import io
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from deep_delta.errors import StorageError
from deep_delta.explore.tables import ranking_table
from deep_delta.tui.drawing.palette import palette
from deep_delta.tui.export import clipboard_text, delimited, export_view, view_rows
from deep_delta.tui.session import VIEWS, Session


def rows_of(session):
    return list(csv.reader(io.StringIO(delimited(view_rows(session), ","))))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("theme", ["dark", "ansi-light"])
def test_both_files_are_written_and_never_replaced(demo, tmp_path, view, theme):
    session = Session(demo, view=view)
    first = export_view(session, tmp_path, 80, 24, palette(theme))
    kept = [path.read_bytes() for path in first]
    second = export_view(session, tmp_path, 80, 24, palette(theme))
    assert [path.name for path in first] == [f"ddl-{view}-1.svg", f"ddl-{view}-1.csv"]
    assert [path.name for path in second] == [f"ddl-{view}-2.svg", f"ddl-{view}-2.csv"]
    assert [path.read_bytes() for path in first] == kept


@pytest.mark.parametrize("view", VIEWS)
def test_a_picture_is_whole_and_needs_nothing_from_elsewhere(demo, tmp_path, view):
    picture, _ = export_view(Session(demo, view=view), tmp_path, 100, 30, palette("light"))
    content = picture.read_text()
    root = ElementTree.fromstring(content)
    assert root.tag.endswith("svg")
    assert "url(" not in content
    assert content.count("http") == 1, "the namespace alone"
    assert "1 curves" in "".join(root.itertext())
    assert len(content) < 200_000


def test_text_in_a_picture_is_escaped(session, tmp_path):
    session.pattern = "a<b&c|ddl"
    picture, _ = export_view(session, tmp_path, 100, 30, palette("dark"))
    assert "a<b&c|ddl" in "".join(ElementTree.fromstring(picture.read_text()).itertext())


def test_curves_are_one_observation_a_row(session):
    head, *rows = rows_of(session)
    assert head == ["experiment", "variant", "measure", "step", "least", "mean", "greatest", "not finite"]
    found = [row for row in rows if row[1:3] == ["ddl", "loss"]]
    line = next(one for one in session.listed() if one.slug == "ddl").band("loss", points=1000)
    assert [float(row[3]) for row in found] == line.x.tolist()
    assert [float(row[5]) for row in found] == line.mean.tolist(), "every digit is kept"


def test_a_missing_value_is_empty_and_counted(write_run):
    from deep_delta.explore import open_paths

    session = Session(open_paths([write_run("ddl", [3.0, None, 2.0])]).read_all())
    found = [row for row in rows_of(session) if row[2:3] == ["loss"]]
    assert [row[4:] for row in found] == [["3.0"] * 3 + ["0"], [""] * 3 + ["1"], ["2.0"] * 3 + ["0"]]


def test_spectra_have_a_row_a_layer_and_step(session):
    session.view, session.chosen = "spectra", "ddl-cc"
    head, *rows = rows_of(session)
    assert head[:5] == ["variant", "seed", "step", "layer", "beta_mean"]
    spectra = session.chosen_trace().spectra()
    assert len(rows) == spectra.steps.size * len(spectra.labels)
    assert float(rows[-1][4]) == spectra.values["beta_mean"][-1, -1]


def test_the_comparison_is_what_the_ranking_says(session):
    session.view, session.pattern = "comparison", "ddl-*"
    rows = rows_of(session)
    wanted = [row[1] for row in ranking_table(session.exploration.experiments[0]).rows if row[1].startswith("ddl-")]
    assert [row[2] for row in rows[1 : 1 + len(wanted)]] == wanted
    assert sum(row[:1] == ["demonstration"] for row in rows) == len(wanted) * 3, "and two seeds of each"


def test_benchmarks_have_every_row(session):
    session.view = "benchmarks"
    head, *rows = rows_of(session)
    assert head[:3] == ["file", "row", "seconds"]
    assert len(rows) == len(session.exploration.benchmarks[0].record.rows)


def test_the_clipboard_gets_values_at_the_cursor(session):
    session.cursor = 100.0
    lines = clipboard_text(session).splitlines()
    assert lines[0] == "variant\tstep\tloss"
    assert len(lines) == 7
    assert all(line.split("\t")[1] == "100" for line in lines[1:])
    value = float(lines[1].split("\t")[2])
    line = next(one for one in session.listed() if one.label == lines[1].split("\t")[0]).band("loss")
    assert value == line.mean[99]


@pytest.mark.parametrize("view", ["spectra", "comparison", "benchmarks"])
def test_the_clipboard_gets_tables(demo, view):
    lines = clipboard_text(Session(demo, view=view)).splitlines()
    assert len(lines) > 5
    assert "\t" in lines[0]
    assert len("\n".join(lines)) < 50_000, "terminals refuse long ones"


def test_nothing_to_copy_is_nothing(session):
    session.pattern = "nothing"
    assert clipboard_text(session) == ""
    assert clipboard_text(replace(session, view="spectra")) == ""


def test_a_folder_that_cannot_be_written(session, tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        export_view(session, tmp_path / "gone", 80, 24, palette("dark"))
