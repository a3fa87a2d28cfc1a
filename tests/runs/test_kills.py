"""Real SIGKILLs, which no handler sees. The harness forks, so it has a process without threads to itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def kill_savers(folder: Path, kills: int, saver: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.runs.killed_saver", str(folder), str(kills), saver]
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("kills", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_no_kill_loses_a_finished_save(kills: int, tmp_path: Path) -> None:
    done = kill_savers(tmp_path, kills, "good")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_the_harness_catches_a_writer_that_points_too_early(tmp_path: Path) -> None:
    done = kill_savers(tmp_path, 400, "bad")
    assert done.returncode == 1
    assert "is not a folder there" in done.stderr
