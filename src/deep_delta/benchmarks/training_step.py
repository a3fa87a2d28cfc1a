"""Training steps of several models, timed side by side (`timing.interleave`)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import torch

from deep_delta.benchmarks.machine import waiter
from deep_delta.benchmarks.timing import interleave
from deep_delta.models.config import DdlConfig
from deep_delta.models.modes import usual_defaults
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.benchmark import StepTime
from deep_delta.training.config import TrainingConfig
from deep_delta.training.optimizer import build_optimizer
from deep_delta.training.step import prepare_loss, take_step


def measure_step_times(
    configs: Mapping[str, DdlConfig],
    training: TrainingConfig,
    *,
    device: str | torch.device = "cpu",
    rounds: int = 10,
) -> dict[str, StepTime]:
    """Times of whole training steps (forward, backward, clipping, AdamW) on random tokens, rounds interleaved.

    The first of `configs` is what the others are relative to. All models are in memory at once.
    """
    with torch.random.fork_rng(), usual_defaults():
        torch.manual_seed(training.seed)
        models = {name: DdlTransformer(config).to(device) for name, config in configs.items()}
    steps = {name: training_step(model, training) for name, model in models.items()}
    return interleave(steps, rounds=rounds, wait=waiter(torch.device(device)))


def training_step(model: DdlTransformer, training: TrainingConfig) -> Callable[[], None]:
    """A function that takes one whole step of `model`, always on the same random tokens."""
    optimizer = build_optimizer(model, training)
    loss_of = prepare_loss(model, training)
    tokens = np.random.default_rng(training.seed).integers(
        model.config.vocab_size, size=(training.batch_size, training.seq_len + 1)
    )
    batches = itertools.repeat((tokens[:, :-1].copy(), tokens[:, 1:].copy()))

    def step() -> None:
        take_step(loss_of, optimizer, batches, 0, training)

    return step
