"""What tracks a state, and what recalls: DeltaNet's gate over time, and Deep Delta Learning's over depth.

    python examples/state_tracking.py               # the figures and tables of docs/results/state-tracking.md
    python examples/state_tracking.py --quick       # the same with a few steps: it shows how, not what

Three studies on synthetic tasks (docs/synthetic.md), one thread a model and as many models at a time as cores:

parity  is the number of ones so far odd? Trained on 3 to 40 bits, tested on up to 256 (arXiv 2411.12537)
s3      the product of all permutations of three things so far; trained on 3 to 32, tested on up to 256
recall  the value that stood behind a key, by the number of pairs and the width of the memory (arXiv 2312.04927)

Every run is an ordinary one in --out (in its folder quick, with --quick): `ddl compare`, `ddl generate` and
`ddl train --resume` work on it. What is there already is not trained again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from deep_delta import DdlConfig, TrainingConfig, load_checkpoint
from deep_delta.data.opening import open_data
from deep_delta.data.synthetic.tasks import parse_task
from deep_delta.evaluation.accuracy import measure_accuracy
from deep_delta.runs.layout import RunFolder
from deep_delta.training.run import resume, train

MIXERS: dict[str, dict[str, Any]] = {
    "attention": {"mixer": "attention"},
    "deltanet01": {"mixer": "deltanet"},
    "deltanet02": {"mixer": "deltanet", "neg_eigval": True},
}
RESIDUALS: dict[str, dict[str, Any]] = {
    "additive": {"residual": "additive"},
    "delta": {"residual": "delta"},
    "delta4": {"residual": "delta", "d_value": 4, "compression": "channel_conv"},
}
NAMES = {
    "attention": "attention", "deltanet01": "DeltaNet, β in (0, 1)", "deltanet02": "DeltaNet, β in (0, 2)",
    "additive": "additive residual", "delta": "delta residual", "delta4": "delta residual, V = 4",
    "width8": "K = 8", "width16": "K = 16", "width32": "K = 32",
}  # fmt: skip
CHANCE = {"parity": 1 / 2, "s3": 1 / 6, "recall": 1 / 64}


class Study(NamedTuple):
    """Models by name, "ROW_COLUMN" of a table, and how they are trained and on what."""

    spec: str
    shape: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    training: TrainingConfig
    lengths: tuple[int, ...]
    """where right answers are counted"""

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        return {
            f"{row}_{column}": {**self.shape, **fields, **over_depth}
            for row, fields in self.rows.items()
            for column, over_depth in RESIDUALS.items()
        }


def studies(quick: bool) -> dict[str, Study]:
    """At equal steps, batches and learning rates within a study."""

    def training(steps: int, learning_rate: float, batch_size: int = 64) -> TrainingConfig:
        steps = 6 if quick else steps
        return TrainingConfig(
            max_steps=steps, batch_size=batch_size, seq_len=96, learning_rate=learning_rate,
            min_learning_rate=learning_rate / 100, warmup_steps=min(50, steps), weight_decay=0.0, eval_interval=steps,
            eval_batches=4, checkpoint_interval=steps,
        )  # fmt: skip

    tracking = {"d_model": 64, "num_layers": 1, "num_heads": 4, "mixer_conv_size": 1}
    recall = {"d_model": 64, "num_layers": 1, "num_heads": 1, "mixer": "deltanet"}
    widths = {f"width{width}": {"head_dim": width} for width in (8, 16, 32)}
    bits, words = (4, 8, 16, 24, 40, 64, 128, 256), (4, 8, 16, 32, 64, 128, 256)
    two_layers = {**tracking, "num_layers": 2}
    return {
        "parity": Study("synth:parity:train=3-40,test=40-256", tracking, MIXERS, training(1000, 1e-2), bits),
        "s3": Study("synth:s3:train=3-32,test=32-256", two_layers, MIXERS, training(1000, 1e-2), words),
        "recall": Study("synth:recall:pairs=4-32,test=4-64", recall, widths, training(1500, 1e-3, 32), words[:5]),
    }


def train_one(name: str, model: str, seed: int, folder: Path, quick: bool) -> list[float]:
    """One model of a study, in a process of its own: its share of right answers at each length of the study.

    Of recall all answers count, else the last one of each sequence.
    """
    torch.set_num_threads(1)
    study = studies(quick)[name]
    out = folder / name / f"seed-{seed}" / model
    if RunFolder(out).comparison.exists():
        resume(out)
    else:
        data = open_data(study.spec)
        sizes = {"vocab_size": data.tokenizer.vocab_size, "max_seq_len": data.context(study.training.seq_len)}
        configs = {model: DdlConfig(**study.models[model], **sizes)}
        train(configs, study.training.model_copy(update={"seed": seed}), data, out, data_spec=study.spec)
    trained, _, _ = load_checkpoint(out / model / "checkpoints" / "LATEST")
    found = [measure_accuracy(trained, study.spec, length) for length in study.lengths]
    return [answers.overall if name == "recall" else answers.last for answers in found]


def train_all(jobs: Sequence[tuple[str, str, int]], folder: Path, quick: bool) -> dict[str, list[list[float]]]:
    """The shares of right answers of every "STUDY ROW_COLUMN", a list for each seed."""
    futures: dict[str, list[Future[list[float]]]] = {}
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("training", total=len(jobs))
        for name, model, seed in jobs:
            future = pool.submit(train_one, name, model, seed, folder, quick)
            future.add_done_callback(lambda _: progress.advance(bar))
            futures.setdefault(f"{name} {model}", []).append(future)
        return {model: [future.result() for future in of_seeds] for model, of_seeds in futures.items()}


def print_table(name: str, study: Study, found: Mapping[str, list[list[float]]]) -> None:
    """One line a model: the mean over the seeds at each length, and every seed at the longest."""
    print(f"\n{name}: {study.spec}, right answers by length; chance {CHANCE[name]:.3f}\n")
    print("| model | residual | " + " | ".join(map(str, study.lengths)) + f" | seeds at {study.lengths[-1]} |")
    print("|---" * (len(study.lengths) + 3) + "|")
    for model, of_seeds in found.items():
        row, column = model.split("_")
        means = [f"{fmean(shares):.3f}" for shares in zip(*of_seeds, strict=True)]
        last = " ".join(f"{shares[-1]:.3f}" for shares in of_seeds)
        print(f"| {NAMES[row]} | {column} | " + " | ".join(means) + f" | {last} |")


def draw(name: str, study: Study, found: Mapping[str, list[list[float]]], path: Path) -> None:
    """A panel for each residual, a line for each row of the table; the band goes from the worst to the best seed."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": name, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    from matplotlib import pyplot

    task = parse_task(study.spec)
    figure, panels = pyplot.subplots(1, len(RESIDUALS), figsize=(9, 2.9), sharey=True, layout="constrained")
    for panel, column in zip(panels, RESIDUALS, strict=True):
        panel.axvspan(task.train.first, task.train.last, color="#000000", alpha=0.06, linewidth=0)
        panel.axhline(CHANCE[name], color="#777777", linewidth=1, linestyle=":")
        for row, color in zip(study.rows, ("#999999", "#d1495b", "#00798c"), strict=True):
            by_length = list(zip(*found[f"{row}_{column}"], strict=True))
            low, high = (list(map(pick, by_length)) for pick in (min, max))
            panel.fill_between(study.lengths, low, high, color=color, alpha=0.18, linewidth=0)
            panel.plot(study.lengths, list(map(fmean, by_length)), "o-", color=color, markersize=3.5, label=NAMES[row])
        panel.set(title=NAMES[column], xscale="log", xticks=study.lengths, ylim=(0, 1.04))
        panel.set_xticklabels(map(str, study.lengths))
        panel.minorticks_off()
        panel.set_xlabel({"parity": "bits", "s3": "permutations", "recall": "key\N{EN DASH}value pairs"}[name])
    panels[0].set_ylabel("right answers" if name == "recall" else "right last answers")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=CHANCE, default=list(CHANCE))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="six steps of each")
    parser.add_argument("--out", type=Path, default=Path("runs/state-tracking"))
    options = parser.parse_args()
    chosen = {name: study for name, study in studies(options.quick).items() if name in options.studies}
    folder = options.out / "quick" if options.quick else options.out
    jobs = [(name, model, seed) for seed in range(options.seeds) for name in chosen for model in chosen[name].models]
    shares = train_all(jobs, folder, options.quick)
    for name, study in chosen.items():
        found = {model: shares[f"{name} {model}"] for model in study.models}
        print_table(name, study, found)
        draw(name, study, found, folder / f"{name}.svg")
        print(f"\nfigure: {folder / name}.svg")


if __name__ == "__main__":
    main()
