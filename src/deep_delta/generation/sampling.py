"""From one row of logits to one token: temperature, top-k, top-p. Imports no torch: options are checked before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deep_delta.errors import ConfigError, NumericsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; applied in the order of the fields.

    temperature: divides the logits; 0 takes the likeliest token.
    top_k: keep the k likeliest tokens. None keeps all.
    top_p: keep the fewest tokens whose probabilities, after top_k, reach p. 1 keeps all.
    `ConfigError` for a value outside its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 1e6):
            raise ConfigError(f"temperature must be between 0 (the likeliest token) and 1e6, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be in (0, 1], got {self.top_p}")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution that `sampling` makes of `logits` [vocab]: fp64 [vocab], on the CPU, adding up to 1.

    On the CPU and in fp64, so that one seed draws the same text on every device that computes the same logits.
    `NumericsError` when no logit is finite or one is NaN or +inf.
    """
    logits = logits.detach().double().cpu()
    top = float(logits.max())  # NaN and inf both show here
    if not math.isfinite(top):
        raise NumericsError(f"the model's logits are not finite (largest: {top}); the checkpoint has diverged")
    if sampling.temperature == 0:
        return logits.new_zeros(logits.shape).index_fill(0, logits.argmax(), 1.0)
    scaled = (logits - top) / sampling.temperature
    if sampling.top_k is None and sampling.top_p == 1:
        return scaled.softmax(-1)
    kept, order = scaled.topk(min(sampling.top_k or len(scaled), len(scaled)))
    kept = kept.softmax(-1)
    mass_before = kept.cumsum(-1) - kept
    kept = kept.where(mass_before < sampling.top_p, 0.0)
    return logits.new_zeros(logits.shape).index_copy(0, order, kept / kept.sum())


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token id from `logits` [vocab]; `generator` is a CPU generator, advanced by every call but a greedy one."""
    weights = probabilities(logits, sampling)
    if sampling.temperature == 0:
        return int(weights.argmax())
    return int(weights.multinomial(1, generator=generator))
