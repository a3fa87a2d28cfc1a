"""Commands as a user runs them, in a temporary folder, on a small real text."""

import os
from pathlib import Path

import pytest

from deep_delta.cli.main import main


@pytest.fixture
def tiny():
    """The smallest model and training that are still worth the name."""
    model = ["--model.d-model", "16", "--model.num-layers", "1", "--model.num-heads", "2", "--train.seq-len", "16"]
    return [*model, "--train.batch-size", "2", "--train.eval-batches", "2", "--train.eval-interval", "2"]


@pytest.fixture
def ddl(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEP_DELTA_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def text(tmp_path):
    """A file of real text: the source of a module of the standard library."""
    file = tmp_path / "text.txt"
    file.write_text(Path(os.__file__).read_text(encoding="utf-8")[:20_000])
    return file


@pytest.fixture
def trained(ddl, text, tiny):
    """A finished run of two variants, four steps each."""
    code, _, err = ddl(
        "train", "--variants", "baseline,ddl-cc", "--data", text, "--out", "run", *tiny, "--train.max-steps", 4
    )
    assert code == 0, err
    return text.parent / "run"
