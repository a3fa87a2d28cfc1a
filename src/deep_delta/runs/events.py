"""events.jsonl: what happened in a run, one JSON object a line, the source of truth for curves and reports."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deep_delta.errors import CheckpointError
from deep_delta.runs.record import strict_json
from deep_delta.runs.storage import atomic_write, make_folder, storage_errors, sync, write_all


@dataclass(frozen=True)
class EventLog:
    """An append-only log. A line counts once its newline is on disk: a torn last line was never written."""

    path: Path

    def append(self, kind: str, *, durable: bool = True, **fields: Any) -> None:
        """Add one event. Fields are JSON values; `step` is what `truncate_after` reads.

        A durable event, and all before it, survive a loss of power; any other survives a kill of this process only,
        and costs no wait for the disk.

        A number that is not finite is our own mistake (ValueError): say `None` and the reason in another field.
        StorageError when the disk refuses; the log is then as it was.
        """
        line = json.dumps({"kind": kind, **fields}, allow_nan=False, ensure_ascii=False) + "\n"
        is_new = not self.path.exists()
        if is_new:
            make_folder(self.path.parent)
        with storage_errors(self.path):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                end = _whole_lines(descriptor)
                os.ftruncate(descriptor, end)
                os.lseek(descriptor, end, os.SEEK_SET)
                try:
                    write_all(descriptor, line.encode())
                    if durable:
                        os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, end)
                    raise
            finally:
                os.close(descriptor)
            if is_new:
                sync(self.path.parent)

    def read(self) -> list[dict[str, Any]]:
        """Every event, oldest first; none when there is no log. CheckpointError names a damaged line by number."""
        return [self._parse(line, number) for number, line in enumerate(self._lines(), start=1)]

    def truncate_after(self, step: int) -> None:
        """Drop the first event of a later step and all that follow it, as a run does that resumes from `step`."""
        lines = self._lines()
        for number, line in enumerate(lines, start=1):
            if self._parse(line, number).get("step", 0) > step:
                atomic_write(self.path, b"".join(lines[: number - 1]))
                return

    def _lines(self) -> list[bytes]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error.strerror or error}") from None
        return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self.path} line {number}"
        try:
            event = strict_json(line)
        except ValueError as error:
            raise CheckpointError(f"{where} is damaged: {error}; restore the file or move it away") from None
        if not isinstance(event, dict) or not isinstance(event.get("kind"), str):
            raise CheckpointError(f"{where} is not an event; restore the file or move it away")
        if type(event.get("step", 0)) is not int:
            raise CheckpointError(f"{where}: step must be a whole number, got {event['step']!r}")
        return event


def _whole_lines(descriptor: int) -> int:
    """Where the last whole line ends, in bytes from the start."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
