"""From one row of logits to one token: penalty, temperature, top-k, top-p, min-p.

Imports no torch: options are checked before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deep_delta.errors import ConfigError, NumericsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn; applied in the order of the fields.

    repetition_penalty: divides the logits of tokens that the sequence holds already (the prompt's too) where they are
        positive and multiplies them where they are negative (CTRL, arXiv 1909.05858). 1 changes nothing; below 1
        repetition is favoured.
    temperature: divides the logits; 0 takes the likeliest token.
    top_k: keep the k likeliest tokens. None keeps all.
    top_p: keep the fewest tokens whose probabilities, after top_k, reach p. 1 keeps all.
    min_p: keep the tokens that are at least min_p times as likely as the likeliest (arXiv 2407.01082). 0 keeps all.

    The likeliest token is always kept. `ConfigError` for a value outside its range.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 1e-6 <= self.repetition_penalty <= 1e6:
            raise ConfigError(
                f"repetition_penalty must be between 1e-6 and 1e6 (1: none), got {self.repetition_penalty}"
            )
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= 1e6):
            raise ConfigError(f"temperature must be between 0 (the likeliest token) and 1e6, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be in (0, 1], got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p must be in [0, 1], got {self.min_p}")


def probabilities(logits: Tensor, sampling: Sampling, seen: Tensor | None = None) -> Tensor:
    """The distribution that `sampling` makes of `logits` [vocab]: fp64 [vocab], on the CPU, adding up to 1.

    seen: which tokens the sequence holds already, bool [vocab] on the CPU, for the repetition penalty; None for none.
    On the CPU and in fp64, so that one seed draws the same text on every device that computes the same logits.
    `NumericsError` when no logit is finite or one is NaN or +inf.
    """
    logits = logits.detach().double().cpu()
    top = float(logits.max())  # NaN and inf both show here
    if not math.isfinite(top):
        raise NumericsError(f"the model's logits are not finite (largest: {top}); the checkpoint has diverged")
    penalty = sampling.repetition_penalty
    if seen is not None and penalty != 1:
        logits = logits.where(~seen, (logits / penalty).where(logits > 0, logits * penalty))
    if sampling.temperature == 0:
        return logits.new_zeros(logits.shape).index_fill(0, logits.argmax(), 1.0)
    scaled = (logits - logits.max()) / sampling.temperature
    if sampling.top_k is None and sampling.top_p == 1 and sampling.min_p == 0:
        return scaled.softmax(-1)
    kept, order = scaled.topk(min(sampling.top_k or len(scaled), len(scaled)))
    kept = kept.softmax(-1)
    mass_before = kept.cumsum(-1) - kept
    kept = kept.where((mass_before < sampling.top_p) & (kept >= sampling.min_p * kept[0]), 0.0)
    return logits.new_zeros(logits.shape).index_copy(0, order, kept / kept.sum())


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator, seen: Tensor | None = None) -> int:
    """One token id from `logits` [vocab]; `generator` is a CPU generator, advanced by every call but a greedy one.

    `seen` is as in `probabilities`.
    """
    weights = probabilities(logits, sampling, seen)
    if sampling.temperature == 0:
        return int(weights.argmax())
    return int(weights.multinomial(1, generator=generator))
