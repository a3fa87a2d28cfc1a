"""`ddl demo`: the whole of the project in a few minutes on any machine: train, compare, time, look, generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser, whole
from deep_delta.cli.settings import Settings, named, variants
from deep_delta.cli.train import new_folder, require_seeds
from deep_delta.errors import ConfigError
from deep_delta.runs.layout import RunFolder, resolve_checkpoint

if TYPE_CHECKING:
    import torch

    from deep_delta.runs.benchmark import StepTime
    from deep_delta.runs.comparison import Ranking, TrainingComparison

_DESCRIPTION = """
Train the additive baseline and the five Deep Delta Learning variants on the source of Python's own standard library,
each from two seeds, at size tiny and recipe quick. Then: how they compare (and where two seeds do not tell them apart,
that it is not resolved), what the gates of each layer learned, how long a training step takes, what the best one
writes, a page of it all (report.html in the runs' folder), and what to try next. Minutes on two cores; nothing is
downloaded.
"""

_EXAMPLES = """
  ddl demo
  ddl demo --steps 20 --variants baseline,ddl-cc
  ddl demo --seeds 4 --out runs/four-seeds
"""

_PROMPT = "def "
_ROUNDS = 10


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    slugs = variants(options.variants)
    require_seeds(options.seeds)
    settings = Settings()
    settings.update(named("sizes", "tiny"))
    settings.update(named("recipes", "quick"))
    if options.steps is not None:
        settings.tables["train"]["max_steps"] = options.steps
    training = settings.training()
    out = RunFolder(Path(options.out) if options.out else new_folder("demo")).create().path

    from deep_delta.benchmarks.training_step import measure_step_times
    from deep_delta.cli.console import notes
    from deep_delta.cli.progress import TrainingProgress
    from deep_delta.data.tokens import prepare
    from deep_delta.evaluation.ranking import rank_runs
    from deep_delta.training.seeds import prepare_seeds, train_seeds

    with notes.status("reading the standard library's source"):
        data = prepare(None, "byte")
        device = resolve_device(options.device)
    notes.print(
        f"{data.corpus.name}, {data.corpus.num_bytes('train') / 1e6:.1f} MB to train on; runs go to {out}",
        soft_wrap=True,
    )
    vocab_size = data.tokenizer.vocab_size
    configs = {slug: settings.model(slug, training, shared=True, vocab_size=vocab_size) for slug in slugs}
    command = ("ddl", "demo", *arguments)
    runs = prepare_seeds(configs, training, data, out, options.seeds, device=device, command=command)
    comparisons = train_seeds(runs, lambda seed: TrainingProgress(f"seed {seed}  "))
    ranking = rank_runs(comparisons)
    with notes.status("timing training steps, one of each variant in turn"):
        times = measure_step_times(configs, training, device=device, rounds=_ROUNDS)
    _show_tables(ranking, comparisons, times)
    _show_text(out / "seed-0" / ranking.standings[0].variant, device)
    _write_page(out)
    _show_next(out, ranking.standings[0].variant)


def _parser() -> Parser:
    parser = Parser("demo [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--out", metavar="FOLDER", help="a new folder for one run per seed [runs/demo-1, -2, …]")
    parser.add_argument(
        "--variants", default="all", metavar="NAMES", help="all, or some of them, as baseline,ddl-cc [all]"
    )
    parser.add_argument("--seeds", type=whole, default=2, metavar="INT", help="how many; one resolves nothing [2]")
    parser.add_argument("--steps", type=whole, metavar="INT", help="training steps of each [those of recipe quick]")
    parser.add_device()
    return parser


def _show_tables(ranking: Ranking, comparisons: Sequence[TrainingComparison], times: Mapping[str, StepTime]) -> None:
    from rich.text import Text

    from deep_delta.cli.console import out, show_table
    from deep_delta.cli.tables import last_spectra, show_gates, show_training

    show_training(ranking, comparisons)
    steps, rate = (comparisons[0].training[name] for name in ("max_steps", "learning_rate"))
    out.print(Text(f"A first look: {steps} steps of small models at one learning rate ({rate:g}).\n", "dim"))
    show_gates(last_spectra([run for comparison in comparisons for run in comparison.runs]))
    rows = [
        [
            variant,
            f"{1e3 * time.median:.1f} ms",
            f"{1e3 * time.lower:.1f} – {1e3 * time.upper:.1f}",
            f"{time.relative:.2f}",
        ]
        for variant, time in times.items()
    ]
    first = next(iter(times))
    note = f"median and quartiles of {_ROUNDS} rounds, one step of each variant in turn; a look, not a benchmark"
    show_table("Time of a training step", ["<variant", "median", "quartiles", f"÷ {first}"], rows, note)


def _show_text(checkpoint: Path, device: torch.device) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from deep_delta.cli.console import out
    from deep_delta.generation.engine import generate
    from deep_delta.generation.sampling import Sampling
    from deep_delta.training.checkpoint import load_checkpoint

    model, tokenizer, manifest = load_checkpoint(resolve_checkpoint(checkpoint), device)
    pieces = generate(model, tokenizer, _PROMPT, max_new_tokens=240, sampling=Sampling(temperature=0.7), seed=1)
    out.print(f"[bold]What {manifest.variant} writes[/] after {manifest.step} steps, from the prompt {_PROMPT!r}")
    out.print(Padding(Text(_PROMPT + "".join(pieces)), (1, 2)))


def _write_page(out: Path) -> None:
    """The page of the runs, with a sample of each variant; a line where what draws it is not installed."""
    from deep_delta.cli.console import notes
    from deep_delta.cli.console import out as screen
    from deep_delta.cli.report import write_report

    try:
        with notes.status("drawing the page"):
            write_report([out], out / "report.html")
    except ConfigError as problem:
        screen.print(f"No page: {problem}", markup=False, soft_wrap=True)
    else:
        screen.print(f"The page is {out / 'report.html'}; open it in a browser.\n", markup=False, soft_wrap=True)


def _show_next(out: Path, variant: str) -> None:
    from deep_delta.cli.console import out as screen

    run_folder = quote(str(out / "seed-0"))
    screen.print("[bold]Next[/]")
    for command in (
        f"ddl tui {quote(str(out))}",
        f"ddl report {quote(str(out))} --figures FOLDER",
        f"ddl compare {run_folder} --data YOUR.txt",
        f'ddl generate {run_folder}/{variant} --prompt "class "',
        "ddl train --variants all --data YOUR.txt --recipe quick --train.max-steps 2000",
    ):
        screen.print(f"  {command}", soft_wrap=True, markup=False)
