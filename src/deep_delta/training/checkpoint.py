"""Checkpoints of models and of whole training runs: which tensors and numbers; `runs.checkpoint_files` has the files.

    model.safetensors       every parameter and buffer once (tied ones under their first name), by state_dict name
    optimizer.safetensors   "<parameter>:<moment>" for every moment of the optimiser
    state.json              `SavedState`: step, data position, schedule, best so far, every random generator
    report.json             what the loop knows about itself at this step
    tokenizer.json          what turns text into this model's tokens
    best_validation/        manifest, model and tokenizer of the best step so far

Checkpoints are taken between optimiser steps only, so no gradients of a half-accumulated step exist to be kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from pydantic import Field
from torch import Tensor, nn

from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import CheckpointError, ConfigError, DataError
from deep_delta.models.config import DdlConfig
from deep_delta.models.modes import usual_defaults
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.checkpoint_files import Best, Writer, verify, write_checkpoint, write_folder
from deep_delta.runs.layout import BEST, resolve_checkpoint
from deep_delta.runs.manifest import DataIdentity, Manifest
from deep_delta.runs.record import Record
from deep_delta.runs.storage import read_regular, write_new
from deep_delta.training.config import TrainingConfig
from deep_delta.training.provenance import versions
from deep_delta.training.rng import RngState, capture_rng, restore_rng
from deep_delta.training.tensor_files import load_moments, load_weights, moments, tensors_writer, unique_tensors

MODEL, OPTIMIZER, STATE, REPORT, TOKENIZER = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "report.json",
    "tokenizer.json",
)
_STATE_LIMIT = 1 << 24
_SMALL_FILES = 1 << 22
_DATA_ORDER_FIELDS = ("seed", "batch_size", "accumulation_steps", "seq_len")


class SavedState(Record):
    """state.json. `learning_rates` has one number a parameter group, as the schedule last set them."""

    step: int = Field(ge=0)
    micro_step: int = Field(ge=0)
    tokens_seen: int = Field(ge=0)
    best_loss: float | None
    best_step: int | None = Field(ge=0)
    optimizer: str
    learning_rates: list[float]
    rng: RngState


@dataclass
class TrainState:
    """Where a training run stands between two optimiser steps, beside model, optimiser and random generators.

    step: optimiser steps done. micro_step: batches drawn from the loader in all, which is the index of the next one
    (a multiple of accumulation_steps, since steps are never cut). tokens_seen: targets trained on.
    best_weights: the weights of best_step: in memory until the next save, then the folder that holds them.
    """

    step: int = 0
    micro_step: int = 0
    tokens_seen: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    best_weights: Mapping[str, Tensor] | Path | None = None

    def record_validation(self, loss: float, model: nn.Module) -> bool:
        """Note the validation loss of this step; True, and the weights are kept, when it is the best so far."""
        if not math.isfinite(loss) or (self.best_loss is not None and loss >= self.best_loss):
            return False
        self.best_loss, self.best_step = loss, self.step
        self.best_weights = {name: tensor.to("cpu", copy=True) for name, tensor in unique_tensors(model).items()}
        return True


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
    saved = SavedState(
        step=state.step,
        micro_step=state.micro_step,
        tokens_seen=state.tokens_seen,
        best_loss=state.best_loss,
        best_step=state.best_step,
        optimizer=type(optimizer).__name__,
        learning_rates=[float(group["lr"]) for group in optimizer.param_groups],
        rng=capture_rng(),
    )
    files: dict[str, Writer] = {
        MODEL: tensors_writer(unique_tensors(model)),
        OPTIMIZER: tensors_writer(moments(model, optimizer)),
        STATE: _text_writer(saved.to_json()),
        REPORT: _text_writer(json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n"),
        TOKENIZER: tokenizer.save,
    }
    manifest = Manifest(
        kind="checkpoint",
        step=state.step,
        variant=variant,
        model=model.config.model_dump(),
        training=training.model_dump(),
        versions=versions(),
        data=data,
        files={},
    )
    folder = write_checkpoint(checkpoints, manifest, files, best=_best(state), keep=training.keep_checkpoints)
    if state.best_step is not None:
        state.best_weights = folder / BEST
    return folder


def save_model(folder: Path, *, variant: str, model: DdlTransformer, tokenizer: Tokenizer, data: DataIdentity) -> None:
    """Save a model that was not trained here, with its tokenizer: a checkpoint from which no training resumes.

    `data` says where it comes from. ConfigError when the folder holds something, StorageError when the disk refuses.
    """
    manifest = Manifest(
        kind="checkpoint",
        step=0,
        variant=variant,
        model=model.config.model_dump(),
        training={"seq_len": model.config.max_seq_len},
        versions=versions(),
        data=data,
        files={},
    )
    write_folder(folder, manifest, {MODEL: tensors_writer(unique_tensors(model)), TOKENIZER: tokenizer.save})


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> tuple[DdlTransformer, Tokenizer, Manifest]:
    """The model (in eval mode), tokenizer and manifest of whatever `resolve_checkpoint` accepts.

    Every file's sha256 is checked before any is used, and names, shapes and dtypes of the weights must be the model's.
    The global random generators are left as they were. CheckpointError (one line: file, what, remedy) otherwise.
    """
    folder = resolve_checkpoint(path)
    manifest = _verify(folder, MODEL, TOKENIZER)
    with torch.random.fork_rng(devices=[]), usual_defaults():
        model = DdlTransformer(_saved_config(folder, manifest))
    load_weights(folder / MODEL, model)
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    except DataError as error:
        _refuse(folder, str(error))
    return model.to(device).eval(), tokenizer, manifest


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
    folder = resolve_checkpoint(path)
    manifest = _verify(folder, MODEL, OPTIMIZER, STATE)
    _require_same(folder, dict(_saved_config(folder, manifest)), dict(model.config), tuple(DdlConfig.model_fields))
    _require_same(folder, manifest.training, training.model_dump(), _DATA_ORDER_FIELDS)
    require_same_data(str(folder), manifest.data, data, remedy="resume with the same data and tokenizer")
    text = read_regular(folder / STATE, limit=_STATE_LIMIT)
    saved = SavedState.from_json(text, error=CheckpointError, where=str(folder / STATE))
    if (saved.best_step is None) is not (manifest.best_validation is None):
        _refuse(folder, f"{STATE} and {BEST} do not agree on the best step")
    load_weights(folder / MODEL, model)
    if saved.optimizer != type(optimizer).__name__:
        _refuse(folder, f"{STATE} is of optimiser {saved.optimizer}, not {type(optimizer).__name__}")
    load_moments(folder / OPTIMIZER, model, optimizer, saved.learning_rates, stepped=saved.step > 0)
    try:
        restore_rng(saved.rng)
    except ValueError as error:
        _refuse(folder, str(error))
    return TrainState(
        step=saved.step,
        micro_step=saved.micro_step,
        tokens_seen=saved.tokens_seen,
        best_loss=saved.best_loss,
        best_step=saved.best_step,
        best_weights=None if saved.best_step is None else folder / BEST,
    )


def require_same_data(trained: str, before: DataIdentity, now: DataIdentity, *, remedy: str) -> None:
    """`DataError`, naming what was `trained`, unless its data are `now` made into the same sequences as `before`."""
    if (before.sha256, before.tokenizer_sha256) != (now.sha256, now.tokenizer_sha256):
        raise DataError(f"{trained} was trained on {_describe(before)}, got {_describe(now)}; {remedy}")
    if before.layout != now.layout:
        raise DataError(
            f"{trained} was trained on sequences of {before.name} in layout {before.layout}, and this version of "
            f"deep-delta-learning makes layout {now.layout}; continue with the version that began it or start a new run"
        )


def checkpoint_bytes(model: nn.Module, training: TrainingConfig) -> int:
    """Bytes that a run's checkpoints can take at once, for `storage.require_space` before step 1."""
    weights = sum(tensor.nbytes for tensor in unique_tensors(model).values())
    both_moments = 2 * sum(parameter.nbytes for parameter in model.parameters())
    return (training.keep_checkpoints + 1) * (2 * weights + both_moments + _SMALL_FILES)


def _best(state: TrainState) -> Best | Path | None:
    """What the checkpoint's best_validation is to hold."""
    if state.best_step is None:
        return None
    if state.best_step == state.step:
        return Best(state.step, {MODEL: None, TOKENIZER: None})
    if isinstance(state.best_weights, Path):
        return state.best_weights
    assert state.best_weights is not None, "record_validation keeps the weights of the best step"
    return Best(state.best_step, {MODEL: tensors_writer(state.best_weights), TOKENIZER: None})


def _text_writer(text: str) -> Writer:
    return lambda path: write_new(path, text.encode())


def _verify(folder: Path, *needed: str) -> Manifest:
    manifest = verify(folder)
    if missing := [name for name in needed if name not in manifest.files]:
        weights_only = MODEL in manifest.files and OPTIMIZER not in manifest.files
        hint = "holds weights only, so training cannot resume from it" if weights_only else "is incomplete"
        _refuse(folder, f"it has no {missing[0]}: it {hint}")
    return manifest


def _saved_config(folder: Path, manifest: Manifest) -> DdlConfig:
    """The model's configuration; what it leaves out is as it was by default, or follows from the rest."""
    fields: dict[str, Any] = dict(manifest.model)
    try:
        return DdlConfig(**fields)
    except ConfigError as error:
        _refuse(folder, str(error))


def _require_same(folder: Path, saved: Mapping[str, Any], now: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for field in fields:
        if saved.get(field) != now.get(field):
            raise ConfigError(
                f"{field} must stay {saved.get(field)!r}, as in {folder}, got {now.get(field)!r}; "
                "resume without changing it, or start a new run"
            )


def _refuse(folder: Path, problem: str) -> NoReturn:
    raise CheckpointError(f"{folder}: {problem}; use another checkpoint")


def _describe(data: DataIdentity) -> str:
    return f"{data.name} ({data.sha256[:12]}) with tokenizer {data.tokenizer} ({data.tokenizer_sha256[:12]})"
