"""Stopping a run politely: the first SIGINT or SIGTERM, or the end of its time, lets the step finish and be saved.

A second signal ends it at once.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from deep_delta.errors import DeepDeltaError


class Interrupted(DeepDeltaError):
    """The run was asked to stop, and has saved itself.

    `exit_code` is 128 + the signal's number, or 0 where its time was up.
    """

    def __init__(self, message: str, signum: int | None) -> None:
        super().__init__(message)
        self.exit_code = 0 if signum is None else 128 + signum


class StopRequest:
    """While entered, remembers the first SIGINT or SIGTERM in `signum`; the handlers of before return with it.

    deadline: on the monotonic clock; from then on it asks by itself, with no `signum`.
    Outside the main thread, where Python delivers no signals, it only waits for `request` and the deadline.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def request(self, signum: int, _frame: FrameType | None = None) -> None:
        """Ask for a stop after the present step; from then on the old handlers answer."""
        self.signum = signum
        self._put_back()

    def asked(self) -> str | None:
        """What asks for a stop now, in words; None where nothing does."""
        if self.signum is not None:
            return f"stopped by {signal.Signals(self.signum).name}"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "the time is up (max_time): stopped"
        return None

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self.request) for number in self._SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put_back()

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
