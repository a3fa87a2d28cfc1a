"""An event log as it grows: read once, by byte offset, whatever is in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from pydantic_core import from_json

_BLOCK = 1 << 18
_LONGEST_LINE = 1 << 24
_MARK = 4096  # bytes before the offset that must still be there


class Journal:
    """`events.jsonl` of a run that may be training. Each whole line is given once; lines that are no event are passed
    over and counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = self.size = 0
        self.lines = 0
        """read so far"""
        self.damaged: list[int] = []
        """numbers of the first lines that were passed over"""
        self.num_damaged = 0
        self.modified: float | None = None
        """when the file was last written, seconds since the epoch; None where there is none"""
        self.problem: str | None = None
        """why it cannot be read"""
        self.torn = False
        """what follows the last whole line has not become one since the poll before"""
        self._inode: int | None = None
        self._mark = b""
        self._rest = 0

    @property
    def behind(self) -> int:
        """Bytes that are not read yet."""
        return 0 if self.torn else self.size - self.offset

    def poll(self) -> tuple[bool, list[dict[str, Any]]]:
        """Events of the next part of the file, at most some 256 kB of it; and before them whether the log was begun
        anew, so that what was read earlier no longer counts."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._gone(), []
        except OSError as error:
            self.problem = f"cannot read {self.path}: {error.strerror}"
            return False, []
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                self.problem = f"{self.path} is not a plain file"
                return False, []
            self.problem, self.modified, self.size = None, found.st_mtime, found.st_size
            anew = self._is_another(descriptor, found)
            if anew:
                self._restart()
            self._inode = found.st_ino
            return anew, self._events(self._whole_lines(descriptor))
        finally:
            os.close(descriptor)

    def _gone(self) -> bool:
        had_some = self.offset > 0
        self._restart()
        self.modified, self.size, self._inode = None, 0, None
        return had_some

    def _restart(self) -> None:
        self.offset = self.lines = self.num_damaged = self._rest = 0
        self.damaged, self.torn, self._mark = [], False, b""

    def _is_another(self, descriptor: int, found: os.stat_result) -> bool:
        if not self.offset:
            return False
        if self._inode == found.st_ino and found.st_size >= self.offset:
            return os.pread(descriptor, len(self._mark), self.offset - len(self._mark)) != self._mark
        return True

    def _whole_lines(self, descriptor: int) -> bytes:
        """The next whole lines, and the offset behind them."""
        want = _BLOCK
        while True:
            block = os.pread(descriptor, want, self.offset)
            end = block.rfind(b"\n") + 1
            if end or len(block) < want or want > _LONGEST_LINE:
                break
            want *= 4
        if not end and len(block) > _LONGEST_LINE:  # no log has such a line: pass over what was read of it
            end = len(block)
        rest = len(block) - end if len(block) < want else 0
        self.torn = not end and rest > 0 and rest == self._rest
        self._rest = rest
        self.offset += end
        if end:
            self._mark = block[max(0, end - _MARK) : end]
        return block[:end]

    def _events(self, block: bytes) -> list[dict[str, Any]]:
        if not block:
            return []
        lines = block.split(b"\n")[:-1] if block.endswith(b"\n") else [block]
        try:
            found = from_json(b"[" + b",".join(lines) + b"]")
            if len(found) != len(lines):
                raise ValueError("a line with two values")
        except ValueError:
            found = [_parse(line) for line in lines]
        events = []
        for event in found:
            self.lines += 1
            if isinstance(event, dict) and isinstance(event.get("kind"), str):
                events.append(event)
                continue
            self.num_damaged += 1
            if len(self.damaged) < 3:
                self.damaged.append(self.lines)
        return events

    def notices(self) -> list[str]:
        """What is wrong with the log, a line each."""
        if self.problem:
            return [self.problem]
        found = []
        if self.num_damaged:
            numbers = ", ".join(map(str, self.damaged)) + (", …" if self.num_damaged > len(self.damaged) else "")
            what = "1 line is" if self.num_damaged == 1 else f"{self.num_damaged:,} lines are"
            found.append(f"{self.path}: {what} no event and passed over (line {numbers})")
        if self.torn:
            found.append(f"{self.path}: its last line is cut off; what it holds so far is passed over")
        return found


def _parse(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        return None
