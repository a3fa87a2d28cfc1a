from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

from deep_delta.training import provenance


def test_an_origin_has_versions_and_hardware():
    found = provenance.origin(torch.device("cpu"))
    assert found.versions["torch"] == torch.__version__
    assert found.hardware["device"] == "cpu"
    assert all(found.hardware.values())


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds a copy of the module, which now finds itself there."""
    source = tmp_path / "provenance.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(source))
    git(tmp_path, "init")
    return tmp_path


def test_the_commit_of_a_checkout_is_told_and_changes_are_marked(checkout: Path):
    assert provenance.commit() is None  # in a repository that does not track it, as an environment inside another's
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "one")
    clean = provenance.commit()
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (checkout / "provenance.py").write_text("x = 2\n")
    assert provenance.commit() == f"{clean}-dirty"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None


def test_a_machine_that_does_not_name_its_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(provenance, "_CPUINFO", tmp_path / "none")
    assert provenance.hardware(torch.device("cpu"))["processor"]
