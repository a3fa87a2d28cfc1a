"""How well a model predicts text: loss, perplexity and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from deep_delta.data.batches import IGNORED
from deep_delta.errors import DataError, NumericsError
from deep_delta.models.modes import evaluation_mode
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.record import Record


@dataclass(frozen=True)
class Batch:
    """Tokens to score: ids and targets [B, T] int64; `num_bytes` of text in the targets that are not `IGNORED`."""

    ids: np.ndarray
    targets: np.ndarray
    num_bytes: int


class LanguageModelScore(Record):
    """Loss in nats per token, over all scored tokens; bits per byte of the text they stand for.

    Bits per byte compares models whose tokenizers differ, as far as those keep the text: one that drops accents or
    writes unknown words as one token has less to predict.
    """

    loss: float
    bits_per_byte: float
    tokens: int
    num_bytes: int

    @property
    def perplexity(self) -> float:
        """e^loss per token; infinite where that passes the range of a float."""
        return perplexity(self.loss)


def perplexity(loss: float) -> float:
    """e^loss; infinite where that passes the range of a float."""
    return math.exp(loss) if loss < math.log(np.finfo(float).max) else math.inf


def evaluate(
    model: DdlTransformer, batches: Iterable[Batch], *, precision: Literal["fp32", "bf16"] = "fp32"
) -> LanguageModelScore:
    """Score a model, in evaluation mode and without gradients, on the device where it is; its mode comes back.

    Raises `DataError` when there is nothing to score and `NumericsError` when a loss is not finite.
    """
    scored = list(score_batches(model, batches, precision=precision))
    tokens = sum(one.tokens for one in scored)
    num_bytes = sum(one.num_bytes for one in scored)
    if not tokens or not num_bytes:
        raise DataError(f"nothing to evaluate: {tokens} tokens that stand for {num_bytes} bytes of text")
    nats = math.fsum(one.nats for one in scored)
    return LanguageModelScore(
        loss=nats / tokens, bits_per_byte=nats / math.log(2) / num_bytes, tokens=tokens, num_bytes=num_bytes
    )


@dataclass(frozen=True)
class BatchScore:
    """The sum of the losses of one batch, in nats."""

    nats: float
    tokens: int
    num_bytes: int


def score_batches(
    model: DdlTransformer, batches: Iterable[Batch], *, precision: Literal["fp32", "bf16"] = "fp32"
) -> Iterator[BatchScore]:
    """One score per batch, which is 0 for one without targets; see `evaluate`."""
    device = next(model.parameters()).device
    with evaluation_mode(model):
        for index, batch in enumerate(batches):
            tokens = int((batch.targets != IGNORED).sum())
            if not tokens:
                yield BatchScore(0.0, 0, batch.num_bytes)
                continue
            ids, targets = (torch.from_numpy(part).to(device) for part in (batch.ids, batch.targets))
            with torch.no_grad(), autocast(device, precision):
                loss = model(ids, targets).item()
            if not math.isfinite(loss):
                raise NumericsError(f"the loss of evaluation batch {index} is {loss}")
            yield BatchScore(loss * tokens, tokens, batch.num_bytes)


def autocast(device: torch.device, precision: Literal["fp32", "bf16"]) -> torch.autocast:
    """The context in which a model runs at this precision; parameters stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
