"""`training_comparison.json`: what a run trained, how each variant fared, how they rank, and what produced it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from deep_delta.errors import CheckpointError
from deep_delta.runs.manifest import DataIdentity
from deep_delta.runs.record import Record
from deep_delta.runs.storage import read_regular

CURVE_POINTS = 1000
"""A training curve is thinned to about this many points; `events.jsonl` has every step."""

_LIMIT = 1 << 32


class CurvePoint(Record):
    """One training step."""

    step: int
    loss: float
    """mean training loss of the step, nats per token"""
    learning_rate: float
    grad_norm: float
    """before clipping"""


class Accuracy(Record):
    """How many answers of a task's sequences a model gets right: the likeliest token is the answer."""

    lengths: str
    """one length, or first-last where the sequences had all of them; what they count is the task's own"""
    overall: float
    """share of all answers"""
    last: float
    """share of the last answer of each sequence"""
    exact: float
    """share of the sequences with no wrong answer"""
    num_answers: int
    num_sequences: int


class Evaluation(Record):
    """The model after `step` steps. Scores that there cannot be are None and `reason` says why."""

    step: int
    loss: float | None
    """validation loss, nats per token; of a task, nats per answer"""
    bits_per_byte: float | None
    tokens: int
    """how many tokens were predicted, of a task the answers"""
    num_bytes: int
    """bytes of text that those tokens stand for"""
    reason: str | None = None
    """why there is no loss, or no bits per byte"""
    accuracies: tuple[Accuracy, ...] = ()
    """of a task: over the training lengths, and after the last step at each test length; empty for text"""
    spectra: tuple[dict[str, Any], ...] = ()
    """the fields of one `deep_delta.spectral` record per sublayer; empty for a model without gates"""


class TrainedVariant(Record):
    """One variant with one seed."""

    variant: str
    seed: int
    status: Literal["not started", "unfinished", "finished"]
    problem: str | None = None
    """why it could not go on: the line of a `NumericsError`"""
    model: dict[str, Any]
    """the fields of its `DdlConfig`"""
    parameters: int
    """trainable numbers"""
    flops_per_token: int | None = None
    """counted operations of training, forward and backward; None where they were not recorded"""
    step: int
    """optimiser steps done and logged"""
    best_loss: float | None
    """lowest validation loss of all evaluations, nats per token"""
    best_step: int | None
    tokens_per_second: float | None
    """median over the steps, without evaluations and checkpoints; variants trained one after the other on a machine
    whose load changes, so no basis for a ranking"""
    curve: tuple[CurvePoint, ...]
    evaluations: tuple[Evaluation, ...]


class Standing(Record):
    """One variant's place in a ranking."""

    rank: int
    """1 is best; by the mean alone, so read `not_resolved_from` too"""
    variant: str
    values: tuple[float, ...]
    """one per seed, or one in all"""
    mean: float
    not_resolved_from: tuple[str, ...]
    """the others that the data do not separate from it"""
    margin: float | None = None
    """half the width of the 95% interval of the mean over seeds; None where one seed each tells nothing of it"""


class Ranking(Record):
    """Variants in the order of a measure, lower being better; no standings where nothing could be measured."""

    measure: str
    rule: str
    """when two variants count as resolved; or why nothing is ranked"""
    standings: tuple[Standing, ...]


class Origin(Record):
    """What produced a result."""

    versions: dict[str, str]
    commit: str | None
    """of the package's source, with `-dirty` for uncommitted changes; None outside a git checkout"""
    hardware: dict[str, str]


class TrainingComparison(Record):
    """A whole run in one file; also what `--resume RUN` continues from."""

    format_version: Literal[1] = 1
    training: dict[str, Any]
    """the fields of the `TrainingConfig`; each of `runs` names its own seed"""
    data: DataIdentity
    data_spec: str | None
    """what `--data` said; None for the embedded corpus"""
    origin: Origin
    runs: tuple[TrainedVariant, ...]
    ranking: Ranking

    @classmethod
    def read(cls, path: Path) -> TrainingComparison:
        """Read a saved comparison; `CheckpointError` where it is missing, damaged or of another format version."""
        return cls.from_json(read_regular(path, limit=_LIMIT), error=CheckpointError, where=str(path))
