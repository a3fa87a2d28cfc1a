"""A model on some documents, as it is: what its sublayers read and write, and what it predicts."""

# B windows, T time, V value channels, D width, n predicted tokens

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from deep_delta.errors import NumericsError
from deep_delta.interventions.documents import Documents
from deep_delta.interventions.forward_pass import Replacement
from deep_delta.interventions.patching import run_with
from deep_delta.interventions.places import Pattern, place_names
from deep_delta.models.modes import evaluation_mode
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.inspection import SublayerName

Home = tuple[int, SublayerName]
"""A sublayer: its layer, and which of the two."""

_STATE_NUMBERS = 1 << 21
_LOGIT_NUMBERS = 1 << 24


def place(home: Home, tail: str) -> str:
    """The name of a sublayer's place."""
    return f"blocks.{home[0]}.{home[1]}.{tail}"


def state_before(home: Home) -> str:
    """The name of the state that a sublayer finds."""
    return f"blocks.{home[0]}.hook_resid_{'pre' if home[1] == 'mixer' else 'mid'}"


@dataclass(frozen=True)
class Window:
    """Some windows of the documents, as tensors; n predicted tokens in all."""

    ids: Tensor
    asked: Tensor
    """[B, T] bool"""
    real: Tensor
    codes: Tensor
    targets: Tensor
    """[n], of the predicted tokens"""
    document: Tensor
    """[n], on the CPU"""
    rows: slice
    """where these windows are among all"""


@dataclass
class Clean:
    """What a model does with a window of the documents when nothing is replaced."""

    log_probabilities: Tensor
    """[n, vocab_size]"""
    k: dict[Home, Tensor] = field(default_factory=dict)
    """[B, T, D], of sublayers that have one"""
    write: dict[Home, Tensor] = field(default_factory=dict)
    """[B, T, D, V]"""
    norm: dict[Home, Tensor] = field(default_factory=dict)
    """‖X‖ [B, T] of the state that a sublayer finds"""


class Subject:
    """A model, its documents and their gates. In evaluation mode and without gradients, whatever runs through it."""

    def __init__(self, model: DdlTransformer, documents: Documents) -> None:
        self.model, self.documents = model, documents
        self.device = next(model.parameters()).device
        self.homes: list[Home] = [(layer, kind) for layer in range(len(model.blocks)) for kind in ("mixer", "mlp")]
        names = set(place_names(model))
        self.gated = [home for home in self.homes if place(home, "hook_beta") in names]
        """The sublayers with a gate."""

    def windows(self) -> Iterator[Window]:
        """All windows, as many at once as memory should hold."""
        documents, config = self.documents, self.model.config
        total, T = documents.ids.shape
        size = min(_STATE_NUMBERS // (T * config.d_model * config.d_value), _LOGIT_NUMBERS // (T * config.vocab_size))
        for start in range(0, total, max(1, size)):
            rows = slice(start, start + max(1, size))
            ids, targets, asked, real, codes = (
                torch.from_numpy(part[rows]).to(self.device)
                for part in (documents.ids, documents.targets, documents.asked, documents.real.copy(), documents.codes)
            )
            document = torch.from_numpy(documents.document[rows]).unsqueeze(1).expand(len(ids), T)
            if asked.any():
                yield Window(ids, asked, real, codes, targets[asked], document[asked.cpu()], rows)

    def run(self, window: Window, replacements: Sequence[tuple[Pattern, Replacement]] = ()) -> Tensor:
        """Log-probabilities [n, vocab_size] of what comes after the predicted places, in fp32 at least."""
        with torch.no_grad(), evaluation_mode(self.model):
            logits = run_with(self.model, window.ids, replacements)[window.asked]
        log_probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        if not log_probabilities.isfinite().all():
            raise NumericsError("a prediction is not finite; the model has diverged, or an intervention made it")
        return log_probabilities

    def clean(self, window: Window) -> Clean:
        """Run it as it is, and keep what interventions are held against."""
        found = Clean(torch.empty(0))
        reads: list[tuple[Pattern, Replacement]] = []
        for home in self.homes:
            reads.append((place(home, "hook_write"), partial(_keep, found.write, home)))
            reads.append((state_before(home), partial(_keep_norm, found.norm, home)))
            if home in self.gated:
                reads.append((place(home, "hook_k"), partial(_keep, found.k, home)))
        found.log_probabilities = self.run(window, reads)
        return found

    def gates(self) -> dict[Home, Tensor]:
        """β of every token of the documents, [N, T], on the CPU."""
        shape = self.documents.ids.shape
        found = {home: torch.zeros(shape, dtype=torch.float64) for home in self.gated}
        for window in self.windows():
            reads: list[tuple[Pattern, Replacement]] = [
                (place(home, "hook_beta"), partial(_fill, found[home], window.rows)) for home in self.gated
            ]
            self.run(window, reads)
        return found


def loss_of(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Nats [n] of each predicted token."""
    return -log_probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)


def norms(increments_BTDV: Tensor) -> Tensor:
    """Frobenius norms, [B, T]."""
    return torch.linalg.matrix_norm(increments_BTDV)


def mean_abs_cosine(width: int) -> float:
    """E|cos| of two random directions of this width: Γ(w/2) / (√π Γ((w + 1)/2))."""
    return math.exp(math.lgamma(width / 2) - math.lgamma((width + 1) / 2)) / math.sqrt(math.pi)


def _keep(found: dict[Home, Tensor], home: Home, there: Tensor) -> None:
    found[home] = there


def _keep_norm(found: dict[Home, Tensor], home: Home, there: Tensor) -> None:
    found[home] = norms(there.to(torch.promote_types(there.dtype, torch.float32)))


def _fill(found: Tensor, rows: slice, there: Tensor) -> None:
    found[rows] = there.squeeze(-1).cpu().to(found)
