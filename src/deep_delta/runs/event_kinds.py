"""The kinds of events in events.jsonl, as records. Logs of earlier versions lack some of their fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deep_delta.runs.comparison import Evaluation
from deep_delta.runs.record import Record


class Started(Record):
    """Training begins."""

    kind: Literal["started"]
    step: Literal[0]
    seed: int
    parameters: int
    """trainable numbers"""
    max_steps: int | None = None
    flops_per_token: int | None = None
    """counted operations of forward and backward for one token"""
    time: str | None = None
    """UTC, ISO 8601"""
    command: list[str] | None = None
    """the words of the command line; None from Python"""
    commit: str | None = None
    """of the package's source, with `-dirty` for uncommitted changes"""


class Resumed(Record):
    """Training goes on from a checkpoint."""

    kind: Literal["resumed"]
    step: int
    checkpoint: str
    """the folder's name"""
    max_steps: int | None = None
    flops_per_token: int | None = None
    time: str | None = None
    command: list[str] | None = None
    commit: str | None = None


class Stepped(Record):
    """One optimiser step."""

    kind: Literal["step"]
    step: int
    """steps done, this one included"""
    loss: float
    """mean training loss of its batches, nats per token"""
    learning_rate: float
    grad_norm: float
    """before clipping"""
    tokens: int
    """training targets of this step"""
    seconds: float


class Evaluated(Evaluation):
    """The model was measured on what is held out."""

    kind: Literal["evaluation"]
    best: bool
    """the lowest loss so far"""


class Saved(Record):
    """A checkpoint is complete on disk."""

    kind: Literal["checkpoint"]
    step: int
    name: str
    """the folder's name"""


class Stopped(Record):
    """Training was asked to stop, and has saved itself."""

    kind: Literal["stopped"]
    step: int
    signal: str | None
    """None at the end of `max_time`"""
    time: str | None = None


class Failed(Record):
    """A loss or gradient was not finite."""

    kind: Literal["failed"]
    step: int | None = None
    problem: str
    time: str | None = None


class Tracked(Record):
    """A tracker follows the events from here on."""

    kind: Literal["tracked"]
    step: int
    tracker: str
    id: str
    """of the run in the tracker"""


class Finished(Record):
    """All steps are done."""

    kind: Literal["finished"]
    step: int
    time: str | None = None


Event = Annotated[
    Started | Resumed | Stepped | Evaluated | Saved | Stopped | Failed | Finished | Tracked, Field(discriminator="kind")
]
