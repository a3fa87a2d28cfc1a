"""The page as a file: whole, small, closed, honest; and never over someone else's file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import pytest

from deep_delta.errors import ConfigError
from deep_delta.explore import open_paths
from deep_delta.report import Sample, build_page, write_figures, write_page
from deep_delta.report import page as pages
from deep_delta.report.chart import Detail
from deep_delta.report.drawing import converter, library
from deep_delta.runs.suites import HarnessResult, SuiteResults, SuiteRow
from tests.explore.conftest import step, write
from tests.runs.test_inspection import INSPECTION

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
_VOID = {"meta", "input", "br"}


class Checker(HTMLParser):
    """The elements of a page; fails where they are not nested as they must be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))
        if name not in _VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.found.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if not set(self.open) & {"script", "style"}:
            self.text.append(data)


def parsed(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def all_text(text):
    return " ".join(" ".join(parsed(text).text).split())


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


def test_the_page_is_one_file_below_two_megabytes_that_points_nowhere(page, text):
    assert page.stat().st_size < 2_000_000
    own = text.replace(library(), "")
    assert own.count("<script>") == 2
    assert not set(re.findall(r"https?://[^\"' <)]+", own)) - {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://www.w3.org/1998/Math/MathML",
    }  # fmt: skip
    names = {name for name, _ in parsed(text).found}
    assert not names & {"link", "img", "iframe", "object", "embed", "base", "form", "image", "use"}
    for _, attributes in parsed(text).found:
        assert not attributes.keys() & {"src", "href", "xlink:href", "srcset", "action"}
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in own
    assert not re.search(r"url\((?!#)", own)


def test_a_browser_may_run_these_scripts_only_and_fetch_nothing(text):
    policy = next(found["content"] for _, found in parsed(text).found if found.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy


def test_every_chart_has_its_picture_and_its_data(text):
    figures = [found for name, found in parsed(text).found if name == "figure"]
    data = json.loads(re.search(r'id="charts">(.*?)</script>', text, re.DOTALL)[1])
    assert [int(found["data-chart"]) for found in figures] == list(range(len(data)))
    assert text.count('class="still"><svg') == len(data) > 20
    assert "NaN" not in "".join(re.findall(r'<div class="still">(.*?)</svg>', text, re.DOTALL))
    identifiers = [found["id"] for _, found in parsed(text).found if "id" in found]
    assert len(identifiers) == len(set(identifiers)) > 20


def test_the_head_says_what_is_known_and_what_is_not(text):
    words = all_text(text)
    for expected in ("Command not recorded", "Seeds 0, 1", "2026-01-01 00:00:00 UTC", "made up, tokenizer byte",
                     "train.learning_rate", "6 variants, 2 seeds, all finished", "not resolved from"):  # fmt: skip
        assert expected in words
    assert "<math" in text
    assert "<b>x</b>" not in text, "a sample is text"
    assert "␛[31m" in text


def test_the_head_has_command_commit_and_failures(tmp_path):
    started = {
        "kind": "started", "step": 0, "seed": 3, "time": "2026-02-03T04:05:06Z", "commit": "abc123-dirty",
        "command": ["ddl", "train", "--data", "my book.txt"],
    }  # fmt: skip
    failed = {"kind": "failed", "step": 2, "problem": "the loss is nan"}
    write(tmp_path / "run" / "ddl" / "events.jsonl", [started, step(1), step(2), failed])
    write(tmp_path / "run" / "baseline" / "events.jsonl", [b"garbage\n", b'{"kind": "sta'])
    words = all_text(build_page(open_paths([tmp_path / "run"]).read_all()))
    for expected in ("ddl train --data 'my book.txt'", "abc123, with uncommitted changes", "Seeds 3",
                     "2026-02-03 04:05:06 UTC", "failed after step 2: the loss is nan", "Versions not recorded",
                     "no training step yet"):  # fmt: skip
        assert expected in words, words[:1500]


def test_names_and_texts_of_others_are_only_text(runs, tmp_path):
    folder = tmp_path / "<b>&amp;" / "seed-0"
    shutil.copytree(runs / "seed-0", folder)
    comparison = folder / "training_comparison.json"
    content = json.loads(comparison.read_text())
    content["data"]["name"] = content["data_spec"] = content["origin"]["commit"] = NASTY
    content["training"]["precision"] = content["origin"]["versions"]["torch"] = NASTY
    content["runs"][1]["variant"] = NASTY
    content["ranking"]["rule"] = NASTY
    comparison.write_text(json.dumps(content))
    exploration = open_paths([folder]).read_all()
    text = build_page(exploration, [Sample(NASTY, NASTY, NASTY), Sample(NASTY, "", "", NASTY)])
    checker = parsed(text)
    assert [name for name, _ in checker.found].count("script") == 4
    assert "img" not in {name for name, _ in checker.found}
    assert " ".join(checker.text).count("alert(1)") > 5
    assert NASTY not in text


@pytest.mark.slow
def test_more_than_fits_is_drawn_coarser_then_left_out_then_refused(runs, monkeypatch):
    exploration = open_paths([runs / "seed-0" / "ddl", runs / "seed-0" / "ddl-ec"]).read_all()
    full, small = Detail(240, 900), Detail(24, 0, everything=False)
    monkeypatch.setattr(pages, "_DETAILS", (full,))
    large = build_page(exploration)
    monkeypatch.setattr(pages, "_DETAILS", (full, small))
    monkeypatch.setattr(pages, "MOST_BYTES", len(large.encode()) - 1)
    text = build_page(exploration)
    assert "are left out" in all_text(text)
    assert len(text) < len(large) - 100_000
    monkeypatch.setattr(pages, "MOST_BYTES", 900_000)
    with pytest.raises(ConfigError, match="2 variants make a page of more than 1 MB; give fewer runs"):
        build_page(exploration)


@pytest.mark.slow
def test_many_long_runs_still_fit(tmp_path):
    spectrum = {
        "sublayer": "mlp", "beta_mean": 0.7, "regime_share": {"near-identity": 1.0}, "alignment": 0.1,
        "discrepancy_before": 1.0, "discrepancy_after": 0.5,
    }  # fmt: skip
    for experiment in range(3):
        for slug in (f"variant-{number}" for number in range(6)):
            events = [{"kind": "started", "step": 0, "seed": 0, "parameters": 10, "flops_per_token": 60}]
            for number in range(1, 401):
                loss = 2 + (number * 7919 % 101) / 100
                events.append(step(number, loss=loss, grad_norm=loss, learning_rate=loss))
                if number % 10 == 0:
                    spectra = [{**spectrum, "layer": layer} for layer in range(24)]
                    events.append({"kind": "evaluation", "step": number, "loss": loss, "bits_per_byte": loss,
                                   "spectra": spectra})  # fmt: skip
            write(tmp_path / f"run-{experiment}" / slug / "events.jsonl", events)
    exploration = open_paths([tmp_path]).read_all()
    assert len(exploration.experiments) == 3
    assert len(build_page(exploration).encode()) < 2_000_000


def test_an_earlier_page_is_replaced_and_nothing_else(runs, tmp_path, page):
    target = tmp_path / "out.html"
    shutil.copy(page, target)
    pages.check_target(target)
    target.write_text("<p>mine</p>")
    with pytest.raises(ConfigError, match="no page of ddl report"):
        write_page(open_paths([runs]), target)
    assert target.read_text() == "<p>mine</p>"
    with pytest.raises(ConfigError, match="is a folder"):
        pages.check_target(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        pages.check_target(tmp_path / "none" / "out.html")
    link = tmp_path / "link.html"
    link.symlink_to(page)
    with pytest.raises(ConfigError, match="choose another file"):
        pages.check_target(link)


def test_results_without_a_run_are_shown(runs):
    text = build_page(open_paths([runs / "benchmark.json"]).read_all())
    assert "Benchmark benchmark.json" in all_text(text)
    assert "<script" not in text, "nothing to draw"


def test_evaluations_and_inspections_are_shown(tmp_path):
    row = SuiteRow(model="m", suite="language", family="agreement", phenomenon=NASTY, split="seen", count=10,
                   score=0.75, low=0.5, high=0.9, chance=0.5, majority=0.5)  # fmt: skip
    task = HarnessResult(model="m", task="local", metric="acc", value=0.25, error=None, samples=4)
    suites = SuiteResults(date="2026", origin=INSPECTION.origin, models=(), rows=(row,), harness=(task,))
    (tmp_path / "suites.json").write_text(suites.to_json())
    (tmp_path / "inspection.json").write_text(INSPECTION.to_json())
    text = build_page(open_paths([tmp_path / "suites.json", tmp_path / "inspection.json"]).read_all())
    words = all_text(text)
    for expected in ("Evaluation suites.json", "agreement", "Tasks", "Inspection inspection.json", "Interventions",
                     "whole sublayer", "runs/β/step-4", "validation split of book.txt"):  # fmt: skip
        assert expected in words
    assert NASTY in "".join(parsed(text).text)
    assert "img" not in {name for name, _ in parsed(text).found}


@pytest.mark.slow
def test_figures_are_black_on_white_and_as_large_as_a_paper_wants(runs, tmp_path):
    exploration = open_paths([runs / "seed-1" / "ddl-ec"]).read_all()
    names = write_figures(exploration, tmp_path / "figures")
    assert {"validation", "loss", "beta-ddl-ec", "ranking"} <= set(names)
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"{name}.{ending}" for name in names for ending in ("svg", "png")
    }
    svg = (tmp_path / "figures" / "loss.svg").read_text()
    assert "currentColor" not in svg
    assert 'fill="white"' in svg
    assert "ddl-ec" in svg, "a legend"
    width = int(re.search(r'width="(\d+)', svg)[1])
    png = (tmp_path / "figures" / "loss.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert abs(int.from_bytes(png[16:20], "big") - 2 * width) <= 2
    with pytest.raises(ConfigError, match="not empty"):
        write_figures(exploration, tmp_path / "figures")


def test_a_missing_library_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ConfigError, match=r"pip install 'deep-delta-learning\[report\]'"):
        converter()
