"""How a model is trained. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from deep_delta.runs.duration import Duration
from deep_delta.runs.record import Record

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
ScheduleName = Literal["cosine", "linear", "wsd", "constant"]
TrackerName = Literal["tensorboard", "trackio", "wandb"]
Whole = Annotated[int, Field(ge=0, le=2**31 - 1)]


class TrainingConfig(Record):
    """Optimiser, schedule, batches, precision and what is kept; validated, frozen, saved with every checkpoint."""

    max_steps: Count = Field(32, description="optimiser steps in all; resuming past it needs a larger one")
    batch_size: Count = Field(8, description="sequences in one forward pass")
    accumulation_steps: Count = Field(1, description="forward passes whose gradients make one step")
    seq_len: Count = Field(128, description="tokens in one training sequence")

    learning_rate: float = Field(1e-3, gt=0, le=1e3, description="peak of the schedule")
    schedule: ScheduleName = Field(
        "cosine", description="what follows the warm-up: cosine, linear, constant, or wsd: constant, then linear"
    )
    min_learning_rate: float = Field(0.0, ge=0, description="where the schedule ends")
    decay_steps: Count | None = Field(None, description="of wsd: steps of its way down [a fifth of max_steps]")
    warmup_steps: Whole = Field(0, description="steps of linear warm-up")
    weight_decay: float = Field(0.1, ge=0, le=1e3, description="on Linear and embedding weights only")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first moment")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second moment")
    epsilon: float = Field(1e-5, gt=0, le=1, description="AdamW's ε")
    grad_clip: float = Field(1.0, ge=0, le=1e9, description="largest gradient norm; 0 turns clipping off")

    eval_interval: Count = Field(4, description="steps between evaluations (and spectral snapshots)")
    eval_batches: Count = Field(8, description="validation batches of one evaluation")
    checkpoint_interval: Count = Field(100, description="steps between checkpoints; the last step is always saved")
    keep_checkpoints: Count = Field(2, description="how many of the latest checkpoints stay on disk")

    max_time: Duration | None = Field(
        None, description="as 4h or 1h30m: then stop, save and exit with 0; counted anew whenever a run is resumed"
    )

    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast; parameters stay fp32")
    compile: bool = Field(False, description="torch.compile the model")
    recompute: bool = Field(
        False, description="keep only what enters each block and run it again in the backward pass: less memory"
    )
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(0, description="parameters, data order and all else")
    data_workers: Annotated[int, Field(ge=0, le=256)] = Field(0, description="threads that prepare batches ahead")
    tracker: TrackerName | None = Field(None, description="a dashboard that follows the events")

    @model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                "min_learning_rate must not exceed learning_rate, "
                f"got {self.min_learning_rate} and {self.learning_rate}"
            )
        if self.schedule == "constant" and self.min_learning_rate:
            raise ValueError("min_learning_rate is where a schedule ends, and constant never goes down; leave it out")
        if self.decay_steps is not None:
            if self.schedule != "wsd":
                raise ValueError(f"decay_steps is for schedule wsd, and schedule is {self.schedule}; leave it out")
            if self.warmup_steps + self.decay_steps > self.max_steps:
                raise ValueError(
                    "warmup_steps and decay_steps must fit into max_steps, "
                    f"got {self.warmup_steps}, {self.decay_steps} and {self.max_steps}"
                )
        return self
