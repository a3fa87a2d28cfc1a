"""Stopping a run politely: the first SIGINT or SIGTERM lets the step finish and be saved, the second ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from deep_delta.errors import DeepDeltaError


class Interrupted(DeepDeltaError):
    """The run was asked to stop by a signal, and has saved itself; `exit_code` is 128 + the signal's number."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class StopRequest:
    """While entered, remembers the first SIGINT or SIGTERM in `signum`; the handlers of before return with it.

    Outside the main thread, where Python delivers no signals, it only waits for `request`.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def request(self, signum: int, _frame: FrameType | None = None) -> None:
        """Ask for a stop after the present step; from then on the old handlers answer."""
        self.signum = signum
        self._put_back()

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
