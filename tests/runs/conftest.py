from __future__ import annotations

import os

import pytest

from tests.runs.faults import FaultyDisk


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FaultyDisk:
    return FaultyDisk(monkeypatch)


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests cannot cut the power, so only the order of fsync calls matters to them, which `FaultyDisk.trace` has."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
