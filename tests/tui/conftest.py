"""A made-up run of six variants and two seeds, read once; and short runs written line by line."""

import json
from pathlib import Path

import pytest

from deep_delta.explore import Exploration, open_paths
from deep_delta.explore.demonstration import demonstration
from deep_delta.tui.session import Session


@pytest.fixture(autouse=True)
def colors(monkeypatch):
    """Whatever the shell that runs the tests asks for."""
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(scope="session")
def demo_paths(tmp_path_factory) -> list[Path]:
    return demonstration(tmp_path_factory.mktemp("tui"))


@pytest.fixture(scope="session")
def demo(demo_paths) -> Exploration:
    return open_paths(demo_paths).read_all()


@pytest.fixture
def session(demo) -> Session:
    return Session(demo)


@pytest.fixture
def write_run(tmp_path):
    """Write a variant's log: (slug, losses) → the run's folder. A loss of None is a value that was not finite."""

    def write(slug, losses, *, end=None, first=1, seed=0) -> Path:
        log = tmp_path / "run" / slug / "events.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        if not log.exists():
            append(log, {"kind": "started", "step": 0, "seed": seed, "parameters": 10, "max_steps": 100})
        for step, loss in enumerate(losses, start=first):
            event = {"kind": "step", "step": step, "loss": loss, "learning_rate": 1e-3, "grad_norm": 1.0}
            append(log, {**event, "tokens": 8, "seconds": 0.01})
        if end is not None:
            append(log, {"kind": end, "step": first + len(losses) - 1, "problem": "the loss is nan"})
        return tmp_path / "run"

    return write


def append(log: Path, event: dict) -> None:
    with log.open("a") as file:
        file.write(json.dumps(event) + "\n")
