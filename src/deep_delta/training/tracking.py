"""Trackers: other programs' dashboards, as sinks of the events that are written anyway.

A tracker runs in a thread of its own and may fail or hang: training goes on without it, and computes the same.
"""

from __future__ import annotations

import importlib.util
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from deep_delta.errors import ConfigError
from deep_delta.models.config import DdlConfig
from deep_delta.runs.layout import VariantFolder
from deep_delta.training.config import TrackerName, TrainingConfig
from deep_delta.training.sinks import SINKS, Sink, TrackedRun

_PROJECT = "deep-delta-learning"
_WAITING = 10_000
_PATIENCE = 5.0

Event = Mapping[str, Any]


def require_tracker(name: TrackerName | None) -> None:
    """`ConfigError`, naming what to install, where a tracker is asked for and is not there."""
    if name is not None and importlib.util.find_spec(name) is None:
        raise ConfigError(f"tracker {name} is not installed; pip install {name}")


def follow(
    folder: VariantFolder, config: DdlConfig, training: TrainingConfig, step: int, tell: Callable[[str], None]
) -> Tracker | None:
    """Begin to track a variant from this step on, or go on in the run that its event log names; None where no tracker
    is asked for. tell: is given a line when the tracker fails."""
    name = training.tracker
    if name is None:
        return None
    known = [event for event in folder.events.read() if event["kind"] == "tracked" and event["tracker"] == name]
    identity = known[0]["id"] if known else uuid.uuid4().hex
    if not known:
        folder.events.append("tracked", step=step, tracker=name, id=identity)
    fields = {f"model.{field}": value for field, value in config.model_dump().items()}
    fields |= {f"train.{field}": value for field, value in training.model_dump().items()}
    run = TrackedRun(
        tracker=name,
        id=identity,
        project=_PROJECT,
        name=f"{folder.path.parent.resolve().name}/{folder.slug}",
        folder=folder.path,
        config=fields,
        step=step,
    )
    return Tracker(run, tell)


class Tracker:
    """Hands events to a sink, in their order, without ever waiting for it.

    patience: seconds that `close` waits for what is still on its way.
    """

    def __init__(self, run: TrackedRun, tell: Callable[[str], None], *, patience: float = _PATIENCE) -> None:
        self.name, self.patience = run.tracker, patience
        self._run, self._tell = run, tell
        self._events: queue.Queue[Event | None] = queue.Queue(_WAITING)
        self._problem: Exception | None = None
        self._told = False
        self._thread = threading.Thread(target=self._work, name=f"tracker {run.tracker}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Track an event; returns at once. What the sink cannot take is said in one line, once."""
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._say(f"does not keep up; some of {self._run.name} is not tracked")
        self._say_problem()

    def close(self) -> None:
        """Let the sink finish, for `patience` seconds at most."""
        try:
            self._events.put(None, timeout=self.patience)
        except queue.Full:
            pass
        else:
            self._thread.join(self.patience)
        if self._thread.is_alive():
            self._say("does not answer; the run goes on without it")
        self._say_problem()

    def _work(self) -> None:
        try:
            sink: Sink = SINKS[self.name](self._run)
            while (event := self._events.get()) is not None:
                sink.write(event)
            sink.close()
        except Exception as error:  # noqa: BLE001  (foreign code, whose failures may not end a training)
            self._problem = error

    def _say_problem(self) -> None:
        if self._problem is not None:
            self._say(f"failed, and the run goes on without it: {_line(self._problem)}")

    def _say(self, what: str) -> None:
        if not self._told:
            self._told = True
            self._tell(f"tracker {self.name} {what}")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
