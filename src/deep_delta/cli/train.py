"""`ddl train`: one or more variants on one text, into one run folder; and its continuation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser, whole
from deep_delta.cli.settings import variants
from deep_delta.errors import ConfigError
from deep_delta.runs.layout import RunFolder, resolve_checkpoint

if TYPE_CHECKING:
    from deep_delta.cli.progress import TrainingProgress
    from deep_delta.runs.comparison import TrainingComparison

_DESCRIPTION = """
Train variants one after the other on the same data, from the same seed, in the same order of batches, and compare
them. RUN gets a folder per variant (checkpoints, events.jsonl) and training_comparison.json: loss curves, what the
gates did at every evaluation, the ranking, and what produced it all. Ctrl-C finishes the step, saves and exits;
--resume goes on from there. With --seeds, RUN gets a folder per seed, and the variants are ranked over all of them:
one seed alone resolves nothing. Any field of the model and of the training is an option; --size, --recipe and --config
set several at once. Tasks with known answers: `ddl data --help` lists them.
"""

_EXAMPLES = """
  ddl train --recipe quick
  ddl train --data book.txt --tokenizer bpe --recipe quick --out runs/book
  ddl train --variants all --data 'texts/*.txt' --tokenizer bpe --size small
  ddl train --size 124m --recipe paper --train.seed 1 --device cuda
  ddl train --data synth:parity:train=3-40,test=40-256 --train.max-steps 1000
  ddl train --variants all --data book.txt --seeds 3 --out runs/seeds
  ddl train --resume runs/book --train.max-steps 2000
"""

_MOST_SEEDS = 100
_FIXED_BY_A_RUN = ("variants", "tokenizer", "out")


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    command = ("ddl", "train", *arguments)
    if options.seeds is not None:
        require_seeds(options.seeds)
    comparisons, out = _train(options, command) if options.resume is None else _resume(options, command)
    _show(comparisons, out)


def _parser() -> Parser:
    parser = Parser("train [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--variants", metavar="NAMES", help="all, or some of them, as ddl,ddl-cc [ddl-cc]")
    parser.add_data()
    parser.add_tokenizer()
    parser.add_argument("--out", metavar="RUN", help="the new folder of this run [runs/train-1, -2, …]")
    parser.add_argument(
        "--seeds", type=whole, metavar="INT", help="train from so many seeds, the first of them train.seed [one]"
    )
    parser.add_argument("--resume", metavar="RUN|CHECKPOINT", help="continue all unfinished variants of a run, or one")
    parser.add_device()
    parser.add_configs()
    return parser


def new_folder(kind: str) -> Path:
    """The first of runs/KIND-1, runs/KIND-2, … that does not exist."""
    return next(path for number in numbers(1) if not (path := Path("runs") / f"{kind}-{number}").exists())


def require_seeds(seeds: int) -> None:
    """`ConfigError` for a number of seeds that cannot be meant."""
    if not 1 <= seeds <= _MOST_SEEDS:
        raise ConfigError(f"--seeds must be from 1 to {_MOST_SEEDS}, got {seeds}")


def _train(options: argparse.Namespace, command: Sequence[str]) -> tuple[list[TrainingComparison], Path]:
    slugs = variants("ddl-cc" if options.variants is None else options.variants)
    _follow_task(options)
    training = options.settings.training()
    shared = len(slugs) > 1
    for slug in slugs:
        options.settings.model(slug, training, shared=shared)
    out = Path(options.out) if options.out else new_folder("train")
    RunFolder(out).create()
    try:
        from deep_delta.data.opening import open_data

        data = open_data(options.data, options.tokenizer)
        vocab_size = data.tokenizer.vocab_size
        configs = {slug: options.settings.model(slug, training, shared=shared, vocab_size=vocab_size) for slug in slugs}
        device = resolve_device(options.device)

        from deep_delta.cli.progress import TrainingProgress
        from deep_delta.training.run import train
        from deep_delta.training.seeds import prepare_seeds, train_seeds

        asked = {"data_spec": options.data, "device": device, "command": command}
        if options.seeds is not None:
            runs = prepare_seeds(configs, training, data, out, options.seeds, **asked)
            return train_seeds(runs, _following), out
        with TrainingProgress() as progress:
            return [train(configs, training, data, out, reporter=progress, **asked)], out
    except BaseException:
        with suppress(OSError):  # a folder in which nothing has begun goes away, any other stays
            out.rmdir()
        raise


def _follow_task(options: argparse.Namespace) -> None:
    """Let the lengths of the task, where it is one, decide those of training and model."""
    from deep_delta.data.synthetic.task_data import TaskData
    from deep_delta.data.synthetic.tasks import is_task, parse_task

    if is_task(options.data):
        task = parse_task(options.data)
        options.settings.follow(task.num_tokens(task.train.last), task.num_tokens(task.test.last))
        TaskData(task).training_lengths(options.settings.training().seq_len)


def _resume(options: argparse.Namespace, command: Sequence[str]) -> tuple[list[TrainingComparison], Path]:
    for name in _FIXED_BY_A_RUN:
        if vars(options)[name] is not None:
            raise ConfigError(f"a resumed run keeps what it was started with; leave --{name} out")
    for name in options.settings.tables["model"]:
        raise ConfigError(f"a resumed run keeps its models; leave model.{name} out")
    changes = options.settings.tables["train"]
    options.settings.training()
    given = Path(options.resume)
    several = bool(RunFolder(given).seeds())
    if options.seeds is not None and not several:
        raise ConfigError(f"{given} is no folder of several seeds; leave --seeds out, or start a new run with it")
    asked = {
        "changes": changes,
        "data_spec": options.data,
        "device": resolve_device(options.device),
        "command": command,
    }
    from deep_delta.cli.progress import TrainingProgress
    from deep_delta.training.run import resume
    from deep_delta.training.seeds import reopen_seeds, train_seeds

    if several:
        return train_seeds(reopen_seeds(given, options.seeds, **asked), _following), given
    with TrainingProgress() as progress:
        comparison = resume(given, reporter=progress, **asked)
    is_run = RunFolder(given).comparison.exists()
    return [comparison], given if is_run else RunFolder.around(resolve_checkpoint(given)).path


def _following(seed: int) -> TrainingProgress:
    from deep_delta.cli.progress import TrainingProgress

    return TrainingProgress(f"seed {seed}  ")


def _show(comparisons: Sequence[TrainingComparison], out: Path) -> None:
    from deep_delta.cli.console import out as screen
    from deep_delta.cli.tables import last_accuracies, last_spectra, show_accuracies, show_gates, show_training
    from deep_delta.data.synthetic.tasks import is_task, parse_task
    from deep_delta.evaluation.ranking import rank_runs

    first, ranking = comparisons[0], rank_runs(comparisons)
    show_training(ranking, comparisons)
    is_text = not is_task(first.data.name)
    if not is_text:
        accuracies = {
            name if len(comparisons) == 1 else f"{name}, seed {comparison.runs[0].seed}": found
            for comparison in comparisons
            for name, found in last_accuracies(comparison.runs).items()
        }
        show_accuracies(accuracies, parse_task(first.data.name).rule.chance)
    show_gates(last_spectra([run for comparison in comparisons for run in comparison.runs]))
    screen.print(f"The run is in {out}. Next:", soft_wrap=True)
    data = "OTHER.txt" if is_text else first.data.name
    several = bool(RunFolder(out).seeds())
    checkpoints = out if several else f"{out}/*/checkpoints/LATEST"
    screen.print(f"  ddl compare {checkpoints} --data {data}", soft_wrap=True)
    best = ranking.standings[0].variant if ranking.standings else first.runs[0].variant
    run = RunFolder(out).of_seed(first.runs[0].seed).path if several else out
    screen.print(f'  ddl generate {run}/{best} --prompt "…"', soft_wrap=True)
