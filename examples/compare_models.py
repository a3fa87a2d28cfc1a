"""Train three residual streams on the same bytes with two seeds each, and say what that resolves.

    python examples/compare_models.py

The variants are rows of data, not classes: only the configuration differs. `ddl compare` does this for checkpoints.
"""

import argparse

import torch

from deep_delta import DdlTransformer, variant_config
from deep_delta.data.tokens import prepare
from deep_delta.evaluation.language_model import Batch, evaluate
from deep_delta.evaluation.ranking import rank_seeds

VARIANTS, SEEDS, STEPS = ("baseline", "ddl", "ddl-cc"), (0, 1), 40
SHAPE = {"d_model": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 64}

data = prepare(argparse.__file__, "byte")
validation = data.held_out(batch_size=16, seq_len=64, seed=0, limit=4)
held_out = [Batch(*pair, num_bytes) for pair, num_bytes in zip(validation.batches, validation.num_bytes, strict=True)]


def train(variant: str, seed: int) -> DdlTransformer:
    """The same tokens in the same order for every variant of a seed."""
    torch.manual_seed(seed)
    model = DdlTransformer(variant_config(variant, vocab_size=data.tokenizer.vocab_size, **SHAPE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batches = data.training_batches(batch_size=8, seq_len=64, seed=seed)
    for step in range(STEPS):
        ids, targets = (torch.from_numpy(part) for part in batches.batch(step))
        optimizer.zero_grad()
        model.loss(ids, targets).backward()
        optimizer.step()
    return model


bits_per_byte = {}
for variant in VARIANTS:
    models = [train(variant, seed) for seed in SEEDS]
    bits_per_byte[variant] = [evaluate(model, held_out).bits_per_byte for model in models]
    scores = "  ".join(f"{score:.3f}" for score in bits_per_byte[variant])
    print(f"{variant:<10} {models[0].num_parameters():>8,} parameters   bits per byte on held-out text: {scores}")

# Two seeds and 40 steps say little; the ranking says how little.
ranking = rank_seeds(bits_per_byte, "bits per byte")
print(f"\nby {ranking.measure}, lower is better; {ranking.rule}")
for one in ranking.standings:
    unresolved = ", ".join(one.not_resolved_from) or "nothing"
    print(f"{one.rank}. {one.variant:<10} {one.mean:.3f}   not resolved from {unresolved}")
