"""What else keeps the machine busy, from the kernel's count of processor time less our own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LIMIT = 0.15
"""cores; a quiet machine's own services stay below"""

_LOOK = 0.3
_ROUNDING = 0.03  # seconds; the kernel counts in ticks of a hundredth
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
    patience: float = 6.0

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

    def wait_for_quiet(self) -> str | None:
        """Wait, for `patience` seconds at most, until nothing else loads the machine; what does if it never ends.

        Looks at a third of a second at a time, in which we do nothing.
        """
        problem = None
        for _ in range(max(1, round(self.patience / _LOOK))):
            before = self.read()
            if before is None:
                return None
            self.sleep(_LOOK)
            problem = self.problem_since(before)
            if problem is None:
                return None
        return problem

    def problem_since(self, before: Reading | None) -> str | None:
        """What was wrong since `before`; None when nothing was, or nothing can be said."""
        after = self.read()
        if before is None or after is None or after.clock <= before.clock:
            return None
        others = (after.busy - before.busy) - (after.own - before.own) - _ROUNDING
        cores = others / (after.clock - before.clock)
        return None if cores <= self.limit else f"something else kept {cores:.1f} cores busy"
