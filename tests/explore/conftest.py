"""Runs written by hand, as small as they can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deep_delta.explore.demonstration import demonstration


def step(number, loss=1.0, **fields):
    """The event of one training step."""
    return {
        "kind": "step", "step": number, "loss": loss, "learning_rate": 0.1, "grad_norm": 1.0, "tokens": 8,
        "seconds": 0.5, **fields,
    }  # fmt: skip


def write(path, events):
    """A log of these events; bytes stand for themselves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n" for event in events]
    path.write_bytes(b"".join(lines))
    return path


def append(path, events):
    with path.open("ab") as file:
        for event in events:
            file.write(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")


@pytest.fixture
def variant(tmp_path):
    """The folder of a variant in a run that has no comparison."""
    return tmp_path / "run" / "ddl"


@pytest.fixture(scope="session")
def shown(tmp_path_factory) -> Path:
    """The folder of the made-up runs; tests only read it."""
    return demonstration(tmp_path_factory.mktemp("shown"))[0]
