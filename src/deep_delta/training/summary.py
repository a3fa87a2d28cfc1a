"""From the event logs of a run to its `training_comparison.json`."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any, Literal, TypeVar

from deep_delta.errors import CheckpointError
from deep_delta.evaluation.flops import flops_per_token
from deep_delta.models.config import DdlConfig
from deep_delta.runs.comparison import CURVE_POINTS, CurvePoint, Evaluation, TrainedVariant
from deep_delta.runs.layout import VariantFolder
from deep_delta.runs.manifest import read_manifest
from deep_delta.runs.record import Record
from deep_delta.training.config import TrainingConfig

AnyRecord = TypeVar("AnyRecord", bound=Record)


def summarize_variant(
    folder: VariantFolder, config: DdlConfig, training: TrainingConfig, parameters: int
) -> TrainedVariant:
    """What the events of one variant say; a variant that has none is not started.

    Raises `CheckpointError` when the log or LATEST is damaged.
    """
    events = folder.events.read()
    steps = [event for event in events if event["kind"] == "step"]
    evaluations = [_record(Evaluation, event, folder) for event in events if event["kind"] == "evaluation"]
    scored = [one for one in evaluations if one.loss is not None]
    best = min(scored, key=lambda one: one.loss if one.loss is not None else math.inf, default=None)
    stride = math.ceil(len(steps) / CURVE_POINTS) or 1
    return TrainedVariant(
        variant=folder.slug,
        seed=training.seed,
        status=_status(folder, training, started=bool(events)),
        problem=next((event["problem"] for event in events[-1:] if event["kind"] == "failed"), None),
        model=config.model_dump(),
        parameters=parameters,
        flops_per_token=flops_per_token(config, training.seq_len).training,
        step=steps[-1]["step"] if steps else 0,
        best_loss=best.loss if best else None,
        best_step=best.step if best else None,
        tokens_per_second=statistics.median(one["tokens"] / one["seconds"] for one in steps) if steps else None,
        curve=tuple(_record(CurvePoint, event, folder) for event in steps[::-1][::stride][::-1]),
        evaluations=tuple(evaluations),
    )


def _status(
    folder: VariantFolder, training: TrainingConfig, *, started: bool
) -> Literal["not started", "unfinished", "finished"]:
    latest = folder.latest()
    if latest is not None and read_manifest(latest).step >= training.max_steps:
        return "finished"
    return "unfinished" if started else "not started"


def _record(kind: type[AnyRecord], event: dict[str, Any], folder: VariantFolder) -> AnyRecord:
    fields = {name: event[name] for name in kind.model_fields if name in event}
    return kind.from_json(json.dumps(fields), error=CheckpointError, where=str(folder.events.path))
