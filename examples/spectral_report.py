"""What did the gates learn? A spectral report, layer by layer.

    python examples/spectral_report.py [CHECKPOINT TEXT]

Of a checkpoint that `ddl train` saved, on a text of yours; without arguments, of a tiny model before and after a short
training.
"""

import argparse
import sys

import torch

from deep_delta import DdlTransformer, load_checkpoint, variant_config
from deep_delta.data.loader import Loader
from deep_delta.data.tokens import prepare
from deep_delta.spectral import collect, summarize


def report(title: str, model: DdlTransformer, ids: torch.Tensor) -> None:
    """One row per layer; `collect` has one record per sublayer with all measures."""
    print(f"{title}\nlayer     β mean ± std   commonest regime        1 − β‖k‖²   discrepancy, after/before   ‖X‖")
    for row in summarize(collect(model, ids)):
        gate = f"{row.beta_mean:.2f} ± {row.beta_std:.2f}"
        regime = f"{row.regime} ({row.share:.0%})"
        ratio = "–" if row.discrepancy_ratio is None else f"{row.discrepancy_ratio:.2f}"
        print(f"{row.layer:>5} {gate:>16}   {regime:<24} {row.k_eigenvalue:>8.2f} {ratio:>27} {row.state_norm:>5.1f}")


if len(sys.argv) == 3:
    model, tokenizer, manifest = load_checkpoint(sys.argv[1])
    data = prepare(sys.argv[2], fixed=tokenizer)
    seq_len = min(model.config.max_seq_len, len(data.train) - 1)
    ids, _ = Loader(data.train, batch_size=4, seq_len=seq_len, seed=0).batch(0)
    report(f"{manifest.variant}, step {manifest.step}", model, torch.from_numpy(ids))
else:
    data = prepare(argparse.__file__, "byte")
    loader = Loader(data.train, batch_size=8, seq_len=64, seed=0)
    torch.manual_seed(0)
    model = DdlTransformer(
        variant_config("ddl-cc", d_model=48, num_layers=3, num_heads=4, vocab_size=data.tokenizer.vocab_size)
    )
    probe = torch.from_numpy(loader.batch(0)[0])
    report("before training", model, probe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        ids, targets = (torch.from_numpy(part) for part in loader.batch(step))
        optimizer.zero_grad()
        model.loss(ids, targets).backward()
        optimizer.step()
    report("\nafter 60 steps", model, probe)
