"""Globs and regular expressions, and their memory."""

import json

import pytest

from deep_delta.tui.filters import Memory, matcher

NAMES = ["baseline", "ddl", "ddl-cc", "ddl-cc-ec", "ddl-ec", "run/ddl"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("", NAMES),
        ("ddl-*", ["ddl-cc", "ddl-cc-ec", "ddl-ec"]),
        ("ddl-?c", ["ddl-cc", "ddl-ec"]),
        ("[bd]*", ["baseline", "ddl", "ddl-cc", "ddl-cc-ec", "ddl-ec"]),
        ("CC", ["ddl-cc", "ddl-cc-ec"]),
        ("^ddl$|base", ["baseline", "ddl"]),
        (r"ddl-.*ec$", ["ddl-cc-ec", "ddl-ec"]),
        ("nothing", []),
    ],
)
def test_a_pattern_is_a_glob_or_a_regular_expression(pattern, wanted):
    matches, problem = matcher(pattern)
    assert [name for name in NAMES if matches(name)] == wanted
    assert not problem


@pytest.mark.parametrize("pattern", ["(", "ddl(", "a{99999999999}", "\\"])
def test_what_is_no_regular_expression_is_taken_as_it_is_and_said(pattern):
    matches, problem = matcher(pattern)
    assert problem.startswith("no regular expression")
    assert matches(f"x{pattern}y")
    assert not matches("ddl")


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_DELTA_CACHE", str(tmp_path / "cache"))
    return lambda name: Memory([tmp_path / name])


def test_a_filter_is_remembered_for_each_folder(memory):
    assert memory("a").recall() == ""
    assert memory("a").keep("cc") == ""
    assert memory("b").keep("层|ec") == ""
    assert memory("a").recall() == "cc"
    assert memory("b").recall() == "层|ec"
    memory("a").keep("")
    assert memory("a").recall() == ""
    assert memory("b").recall() == "层|ec"


def test_only_the_latest_are_kept(memory, tmp_path):
    file = tmp_path / "cache" / "explorer" / "filters.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({str(tmp_path / f"run-{index}"): "x" for index in range(204)}))
    memory("new").keep("x")
    assert len(json.loads(file.read_text())) == 200
    assert memory("run-4").recall() == ""
    assert memory("run-5").recall() == memory("new").recall() == "x"


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": 1}', "\x00"])
def test_a_damaged_memory_is_empty(memory, tmp_path, content):
    file = tmp_path / "cache" / "explorer" / "filters.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert memory("a").recall() == ""
    assert memory("a").keep("cc") == ""
    assert memory("a").recall() == "cc"


def test_a_place_that_cannot_be_written_is_said(memory, tmp_path):
    (tmp_path / "cache").write_text("a file, where a folder should be")
    assert memory("a").keep("cc").startswith("the filter is not remembered")
