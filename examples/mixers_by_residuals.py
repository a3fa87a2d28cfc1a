"""Every token mixer with every residual, on the same tokens: the table of docs/results/mixers-by-residuals.md.

    python examples/mixers_by_residuals.py                # 20 models, two seeds each: some ten minutes on two cores
    python examples/mixers_by_residuals.py --steps 40 --seeds 1

All models of a seed see the same bytes of Python's standard library in the same order, with one learning rate. The runs
are ordinary ones: `ddl compare`, `ddl generate` and `ddl train --resume` work on what is in --out.
"""

import argparse
import math
from pathlib import Path
from statistics import fmean

from deep_delta import TrainingConfig, variant_config
from deep_delta.cli.progress import TrainingProgress
from deep_delta.data.tokens import prepare
from deep_delta.evaluation.ranking import rank_runs
from deep_delta.training.run import train

MIXERS = {
    "attention": {},
    "deltanet": {"mixer": "deltanet"},
    "deltanet-reflecting": {"mixer": "deltanet", "neg_eigval": True},
    "hybrid": {"mixer": "deltanet", "neg_eigval": True, "attention_every": 2},
}
RESIDUALS = {
    "additive": ("baseline", {}),
    "delta": ("ddl", {}),
    "delta-v4": ("ddl-cc-ec", {}),
    "write-only-v4": ("ddl-cc-ec", {"residual": "write_only"}),
    "hyper-v4": ("ddl-cc", {"residual": "hyper"}),
}
SHAPE = {"d_model": 128, "num_layers": 4, "num_heads": 4, "max_seq_len": 128}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=240)
parser.add_argument("--seeds", type=int, default=2)
parser.add_argument("--out", type=Path, default=Path("runs/mixers-by-residuals"))
options = parser.parse_args()

data = prepare(None, "byte")
shape = SHAPE | {"vocab_size": data.tokenizer.vocab_size}
configs = {
    f"{mixer}_{residual}": variant_config(slug, **shape, **over_time, **over_depth)
    for mixer, over_time in MIXERS.items()
    for residual, (slug, over_depth) in RESIDUALS.items()
}
training = TrainingConfig(
    max_steps=options.steps, batch_size=4, seq_len=128, learning_rate=2e-3, min_learning_rate=2e-4, warmup_steps=20,
    eval_interval=options.steps, eval_batches=32, checkpoint_interval=options.steps,
)  # fmt: skip

comparisons = []
for seed in range(options.seeds):
    with TrainingProgress(f"seed {seed}  ") as progress:
        seeded = training.model_copy(update={"seed": seed})
        comparisons.append(train(configs, seeded, data, options.out / f"seed-{seed}", reporter=progress))

ranking = rank_runs(comparisons)
losses = {standing.variant: standing.values for standing in ranking.standings}


def cell(name: str) -> str:
    spread = (max(losses[name]) - min(losses[name])) / 2
    return f"{fmean(losses[name]) / math.log(2):.3f} ± {spread / math.log(2):.3f}"


tokens = options.steps * training.batch_size * training.seq_len
print(f"Validation loss in bits per byte after {tokens:,} tokens; mean and half the range of {options.seeds} seeds\n")
print("| mixer | " + " | ".join(RESIDUALS) + " |")
print("|---" * (len(RESIDUALS) + 1) + "|")
for mixer in MIXERS:
    print(f"| {mixer} | " + " | ".join(cell(f"{mixer}_{residual}") for residual in RESIDUALS) + " |")
print(f"\n{ranking.rule}")
for standing in ranking.standings:
    apart = [name for name in losses if name != standing.variant and name not in standing.not_resolved_from]
    print(f"{standing.rank:2}. {standing.variant}: resolved from {len(apart)} of {len(losses) - 1} others")
