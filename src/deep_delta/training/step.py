"""One optimiser step: gradients of some batches, clipped, checked and applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deep_delta.data.batches import IGNORED
from deep_delta.errors import DataError, NumericsError
from deep_delta.evaluation.language_model import autocast
from deep_delta.models.transformer import DdlTransformer
from deep_delta.training.config import TrainingConfig
from deep_delta.training.schedule import learning_rate

Loss = Callable[[Tensor, Tensor], Tensor]
"""Loss (nats) of ids and targets [B, T]: the mean over the targets that are not `IGNORED`."""

Pairs = Iterator[tuple[np.ndarray, np.ndarray]]
"""Batches (ids, targets), [B, T] int64."""


@dataclass(frozen=True)
class StepResult:
    """What a step saw and did."""

    loss: float
    """mean over the targets of all its batches, nats per target, before the update"""
    learning_rate: float
    grad_norm: float
    """before clipping"""
    tokens: int
    """targets trained on: all positions of a text; of a task, the answers that are asked for"""


def prepare_loss(model: DdlTransformer, training: TrainingConfig) -> Loss:
    """`model(ids, targets)`, called as a module is, so that hooks and wrappers see it; compiled and recomputing as
    `training` says."""
    model.recompute = training.recompute
    return torch.compile(model) if training.compile else model


def take_step(
    loss_of: Loss, optimizer: torch.optim.Optimizer, batches: Pairs, step: int, config: TrainingConfig
) -> StepResult:
    """Take the step with index `step` (from 0) on the next `accumulation_steps` batches.

    The step is that of one large batch: every target of its batches weighs alike, so a batch weighs by how many it has
    (targets of `IGNORED` do not count) and one without any is passed over.

    Raises `NumericsError`, which names step and batch, when a loss or the gradient is not finite, and `DataError` when
    no batch has a target; parameters and moments are then as before.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    device = parameters[0].device
    optimizer.zero_grad(set_to_none=True)
    drawn = [next(batches) for _ in range(config.accumulation_steps)]
    counts = [int((targets != IGNORED).sum()) for _, targets in drawn]
    total = sum(counts)
    if not total:
        raise DataError(f"nothing to learn at step {step + 1}: its batches have no target; give data with targets")
    losses = []
    for (ids, targets), count in zip(drawn, counts, strict=True):
        if not count:
            losses.append(torch.zeros((), dtype=torch.float32, device=device))
            continue
        with autocast(device, config.precision):
            loss = loss_of(torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device))
        (loss * (count / total)).backward()
        losses.append(loss.detach())
    norm_on_device = torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip or math.inf)
    *found, norm = torch.stack([*losses, norm_on_device]).tolist()
    _require_finite(found, norm, step)
    rate = learning_rate(step, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    mean = math.fsum(loss * count for loss, count in zip(found, counts, strict=True)) / total
    return StepResult(loss=mean, learning_rate=rate, grad_norm=norm, tokens=total)


def _require_finite(losses: list[float], norm: float, step: int) -> None:
    first = step * len(losses)
    remedy = "nothing was updated; lower the learning rate, lengthen the warm-up or use precision fp32"
    for batch, loss in enumerate(losses, start=first):
        if not math.isfinite(loss):
            raise NumericsError(f"the loss is {loss} at step {step + 1}, batch {batch}; {remedy}")
    if not math.isfinite(norm):
        batches = f"batch {first}" if len(losses) == 1 else f"batches {first} to {first + len(losses) - 1}"
        raise NumericsError(f"the gradient's norm is {norm} at step {step + 1}, {batches}; {remedy}")
