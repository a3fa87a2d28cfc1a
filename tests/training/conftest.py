from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deep_delta.data.tokens import Dataset, prepare


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests cannot cut the power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEP_DELTA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text("".join(f"{n} times {n} is {n * n}, and one more is {n * n + 1}.\n" for n in range(150)))
    return path


@pytest.fixture(scope="session")
def data(text_file: Path, _own_cache: None) -> Dataset:
    """One document of bytes; its last tenth is for validation."""
    return prepare(str(text_file), "byte")
