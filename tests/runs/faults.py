"""A disk that fails, or a process that dies, at a chosen call; and small checkpoints to try it on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from deep_delta.runs.checkpoint_files import Writer
from deep_delta.runs.manifest import DataIdentity, Manifest
from deep_delta.runs.storage import write_new

CALLS = ("open", "read", "write", "fsync", "close", "sendfile", "ftruncate", "mkdir", "rename", "replace", "link")
CALLS += ("unlink", "rmdir", "scandir", "listdir", "lstat")


class Killed(BaseException):
    """Stands for SIGKILL: from the chosen call on, nothing reaches the disk."""


class FaultyDisk:
    """Counts calls of the operating system; at call number `at` it fails once ("error"), or for good ("kill").

    A failing write leaves half of its bytes behind, as a full disk and a power cut do.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.trace: list[tuple[str, str]] = []

    @contextmanager
    def failing(self, mode: str, at: int) -> Iterator[None]:
        """Fail at call `at`, counted from 0; a negative number only records `trace`."""
        self.trace, self._mode, self._at, self._paths = [], mode, at, {}
        with self._monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._wrap(name, getattr(os, name)))
            yield

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            number = len(self.trace)
            subject = str(self._paths.get(args[0], args[0])) if args else "."
            self.trace.append((name, subject))
            if number != self._at and not (self._mode == "kill" and number > self._at >= 0):
                result = real(*args, **kwargs)
                if name == "open":
                    self._paths[result] = str(args[0])
                return result
            if name == "close":
                with suppress(OSError):
                    real(*args)
            elif name == "write" and number == self._at:
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            raise Killed if self._mode == "kill" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call


def content(text: str) -> Writer:
    return lambda path: write_new(path, text.encode())


def manifest_of(step: int, **fields: Any) -> Manifest:
    data = DataIdentity(name="text", sha256="0" * 64, tokenizer="byte", tokenizer_sha256="1" * 64)
    known: dict[str, Any] = {
        "kind": "checkpoint",
        "variant": "ddl",
        "model": {"d_model": 8, "k_eps": 1e-6, "head": None, "tied": True, "residual": "delta", "theta": 1.0},
        "training": {"learning_rate": 1e-3},
        "versions": {"deep_delta": "0"},
        "data": data,
        "files": {},
    }
    return Manifest(step=step, **(known | fields))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, byte for byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
