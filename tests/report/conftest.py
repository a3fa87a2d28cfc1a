"""One page of the made-up runs, built once; tests only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deep_delta.explore import open_paths
from deep_delta.explore.demonstration import demonstration
from deep_delta.report import Sample, write_page
from tests.report.browser import Browser, find


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    return demonstration(tmp_path_factory.mktemp("runs"))[0]


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory) -> Path:
    """The page of two seeds of six variants, with a benchmark beside them."""
    file = tmp_path_factory.mktemp("page") / "a page.html"
    samples = [
        Sample("ddl, seed 0", "def ", "f(x):\n\treturn\x1b[31m <b>x</b>\u202e"),
        Sample("ddl-cc", "", "", "gone"),
    ]
    write_page(open_paths([runs]).read_all(), file, samples)
    return file


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    program = find()
    if program is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the PATH")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
