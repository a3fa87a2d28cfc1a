"""What else keeps the machine busy, from the kernel's count of processor time less our own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LIMIT = 0.15
"""cores; a quiet machine's own services stay below"""

_QUIET_SECONDS = 0.3
_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # idle and iowait; guest time (8, 9) is counted in user time already


def _own_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


@dataclass(frozen=True)
class Reading:
    """Seconds since some moment: of the clock, of all processors' work, of our own."""

    clock: float
    busy: float
    own: float


@dataclass(frozen=True)
class LoadMeter:
    """Reads how many cores something else keeps busy; blind where the system has no /proc/stat.

    Processor time that a hypervisor gave to others ("steal") counts as theirs.
    """

    stat: Path = _STAT
    own: Callable[[], float] = _own_seconds
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    limit: float = LIMIT

    def __str__(self) -> str:
        if self.read() is None:
            return f"not checked: there is no {self.stat} here"
        return f"refused where something else kept more than {self.limit:g} cores busy"

    def read(self) -> Reading | None:
        try:
            fields = [int(field) for field in self.stat.read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        if not any(fields):
            return None
        busy = sum(ticks for index, ticks in enumerate(fields) if index not in _IDLE)
        return Reading(self.clock(), busy / os.sysconf("SC_CLK_TCK"), self.own())

    def problem_now(self) -> str | None:
        """What is wrong at this moment: looks for a third of a second in which we do nothing."""
        before = self.read()
        if before is None:
            return None
        self.sleep(_QUIET_SECONDS)
        return self.problem_since(before)

    def problem_since(self, before: Reading | None) -> str | None:
        """What was wrong since `before`; None when nothing was, or nothing can be said."""
        after = self.read()
        if before is None or after is None or after.clock <= before.clock:
            return None
        cores = ((after.busy - before.busy) - (after.own - before.own)) / (after.clock - before.clock)
        return None if cores <= self.limit else f"something else kept {cores:.1f} cores busy"
