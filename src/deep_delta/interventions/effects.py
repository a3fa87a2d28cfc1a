"""How far a patched model is from the same model as it is: per document, with intervals over documents."""

# n predicted tokens

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deep_delta.evaluation.ranking import CONFIDENCE, student_quantile
from deep_delta.interventions.subject import loss_of
from deep_delta.runs.inspection import Effect, Estimate


class Tally:
    """Adds up what an intervention does, document by document."""

    def __init__(self, num_documents: int) -> None:
        self.tokens = torch.zeros(num_documents, dtype=torch.float64)
        self.sums = torch.zeros(3, num_documents, dtype=torch.float64)
        """of the loss, the logit difference and KL"""
        self.has_wrong_tokens = True

    def add(self, clean: Tensor, patched: Tensor, targets: Tensor, document: Tensor) -> None:
        """Log-probabilities [n, vocab_size] of the model as it is and patched; targets and documents [n]."""
        self.has_wrong_tokens = clean.shape[1] > 1
        loss = loss_of(patched, targets) - loss_of(clean, targets)
        difference = torch.zeros_like(loss)
        if self.has_wrong_tokens:
            wrong = clean.scatter(1, targets.unsqueeze(1), -math.inf).argmax(1)
            # Log-probabilities differ as logits do.
            difference = loss_of(patched, wrong) - loss_of(clean, wrong) - loss
        kl = (clean.exp() * (clean - patched)).sum(1)
        self.tokens.index_add_(0, document, torch.ones(len(document), dtype=torch.float64))
        self.sums.index_add_(1, document, torch.stack((loss, difference, kl)).cpu().double())

    def effect(self) -> Effect:
        """The mean over documents of each one's mean over tokens."""
        there = self.tokens > 0
        loss, difference, kl = (self.sums[:, there] / self.tokens[there]).tolist()
        return Effect(
            loss=estimate(loss),
            logit_difference=estimate(difference) if self.has_wrong_tokens else None,
            kl=estimate(kl),
        )


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with its 95% interval by Student's t; of a single value, without one."""
    number = len(values)
    mean = math.fsum(values) / number
    if number < 2:
        return Estimate(mean=mean, low=None, high=None)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (number - 1) / number)
    half = _quantile(number - 1) * spread
    return Estimate(mean=mean, low=mean - half, high=mean + half)


@functools.cache
def _quantile(freedom: int) -> float:
    return student_quantile(CONFIDENCE, freedom)
