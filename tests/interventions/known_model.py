"""A model whose answers follow from its weights by hand: one sublayer alone decides what comes next."""

from __future__ import annotations

import math

import numpy as np
import torch

from deep_delta import DdlConfig, DdlTransformer
from deep_delta.interventions import Documents

WORDS, WIDTH, WRITTEN = 6, 8, 2.0
"""Token i is the feature i; feature 7 is 1 for all. `WRITTEN` is v, where β is 1."""
DECISIVE = (1, "mlp")
RUNS_ON = 9


def known_model(layers: int = 3) -> DdlTransformer:
    """After token i comes i + 1 (mod 6), because the MLP of layer 1 writes `WRITTEN` along that feature.

    The output projections of all other sublayers are 0, so that their k̃ is 0 and they change nothing whatever their
    gates. The state is eᵢ + e₇ before the decisive write and eᵢ + e₇ + β v e_{i+1} after it, since kᵀX = 0.
    """
    torch.manual_seed(0)
    config = DdlConfig(
        d_model=WIDTH, num_layers=layers, num_heads=2, vocab_size=WORDS, mlp_hidden=WORDS, norm_eps=1e-12, beta_init=1.0
    )
    model = DdlTransformer(config).double()
    with torch.no_grad():
        for block in model.blocks:
            block.mixer.process.out.weight.zero_()
            block.mlp.process.down.weight.zero_()
        model.embedding.weight.zero_()
        model.embedding.weight[:, :WORDS] = torch.eye(WORDS)
        model.embedding.weight[:, 7] = 1
        decisive = model.blocks[1].mlp
        decisive.process.gate_up.weight.zero_()
        decisive.process.gate_up.weight[:, :WORDS] = torch.eye(WORDS).repeat(2, 1)
        decisive.process.down.weight[:WORDS] = torch.eye(WORDS).roll(1, 0)
        decisive.stream.gate.out.weight.zero_()
        decisive.stream.value.proj.weight.zero_()
        decisive.stream.value.proj.weight[0, 7] = WRITTEN / math.sqrt(WIDTH / 2)  # norm(eᵢ + e₇) has √(D/2) there
    return model.eval()


def known_documents(number: int = 5, length: int = 12) -> Documents:
    """Counting, each document from another token."""
    ids = (np.arange(length)[None] + np.arange(number)[:, None]) % WORDS
    return Documents(ids, (ids + 1) % WORDS, np.arange(number), ("even", "odd"), ids % 2)


def known_logits(written: float) -> list[float]:
    """Of the present token, the next one and each of the others, when `written` is added along the next one."""
    scale = math.sqrt(WIDTH / (2 + written**2))  # of the last norm
    return [2 * scale, scale * (1 + written), scale]


def known_loss(written: float) -> float:
    """Nats of the next token."""
    present, following, other = known_logits(written)
    return math.log(math.exp(present) + math.exp(following) + (WORDS - 2) * math.exp(other)) - following


def known_kl(written: float, patched: float) -> float:
    """KL(written ‖ patched)."""
    counts = (1, 1, WORDS - 2)
    one, other = known_logits(written), known_logits(patched)
    totals = [math.log(sum(n * math.exp(x) for n, x in zip(counts, logits, strict=True))) for logits in (one, other)]
    return sum(
        n * math.exp(x - totals[0]) * ((x - totals[0]) - (y - totals[1]))
        for n, x, y in zip(counts, one, other, strict=True)
    )
