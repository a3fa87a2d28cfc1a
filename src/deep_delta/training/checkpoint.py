"""Checkpoints of models and of whole training runs: tensors and state on one side, `runs.checkpoint_files` on the other.

    model.safetensors       every parameter and buffer once (tied ones under their first name), by state_dict name
    optimizer.safetensors   "<parameter>:<moment>" for every moment of the optimiser
    state.json              `SavedState`: step, data position, schedule, best so far, every random generator
    report.json             what the loop knows about itself at this step
    tokenizer.json          what turns text into this model's tokens
    best_validation/        manifest, model and tokenizer of the best step so far

Checkpoints are taken between optimiser steps only, so no gradients of a half-accumulated step exist to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deep_delta.runs.manifest import DataIdentity, Manifest

if TYPE_CHECKING:
    from deep_delta.data.tokenizer import Tokenizer
    from deep_delta.models.transformer import DdlTransformer
    from deep_delta.training.config import TrainingConfig


@dataclass
class TrainState:
    """Where a training run stands between two optimiser steps, beside model, optimiser and random generators.

    step: optimiser steps done. batches_seen: micro-batches drawn from the loader, which is the next loader index (and
    a multiple of accumulation_steps, since steps are never cut). tokens_seen: targets trained on.
    best_weights: the weights of best_step: in memory until the next save, then the folder that holds them.
    """

    step: int = 0
    batches_seen: int = 0
    tokens_seen: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    best_weights: Mapping[str, torch.Tensor] | Path | None = None

    def record_validation(self, loss: float, model: nn.Module) -> bool:
        """Note a finite validation loss of this step; True (and the weights are kept) when it is the best so far."""
        raise NotImplementedError


def save_checkpoint(
    checkpoints: Path,
    *,
    variant: str,
    model: DdlTransformer,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    training: TrainingConfig,
    tokenizer: Tokenizer,
    data: DataIdentity,
    report: Mapping[str, Any],
) -> Path:
    """Save everything that `restore` needs as checkpoints/step-N and point LATEST at it; returns the folder.

    `model` is the plain module, not its compiled wrapper. `report` holds JSON values (no NaN). Older checkpoints beyond
    training.keep_checkpoints are removed last. Afterwards `state.best_weights` is the folder of the saved copy.
    Hold `RunFolder.lock()`. StorageError when the disk refuses; every earlier checkpoint and LATEST are then as before.
    """
    raise NotImplementedError


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[DdlTransformer, Tokenizer, Manifest]:
    """The model (in eval mode), tokenizer and manifest of whatever `resolve_checkpoint` accepts.

    Every file's sha256 is checked before any is used, and names, shapes and dtypes of the weights must be the model's.
    The global random generators are left as they were. CheckpointError (one line: file, what, remedy) otherwise.
    """
    raise NotImplementedError


def restore(
    path: str | Path,
    *,
    model: DdlTransformer,
    optimizer: torch.optim.Optimizer,
    training: TrainingConfig,
    data: DataIdentity,
) -> TrainState:
    """Put a training run back to where `save_checkpoint` found it: weights, moments, learning rates, generators.

    Call it last before the loop: whatever draws random numbers after it changes the run. `model` and `optimizer` are
    freshly built for the same configuration and on their device.
    CheckpointError: damaged, or a best_validation copy (weights only). ConfigError: another model, or another value of
    a field that data order depends on (seed, batch_size, accumulation_steps, seq_len). DataError: another corpus.
    """
    raise NotImplementedError


def checkpoint_bytes(model: nn.Module, training: TrainingConfig) -> int:
    """Bytes that a run's checkpoints can take at once, for `storage.require_space` before step 1."""
    raise NotImplementedError
