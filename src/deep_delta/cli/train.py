"""`ddl train`: one or more variants on one text, into one run folder; and its continuation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser
from deep_delta.cli.settings import variants
from deep_delta.errors import ConfigError
from deep_delta.runs.layout import RunFolder, resolve_checkpoint

if TYPE_CHECKING:
    from deep_delta.runs.comparison import TrainingComparison

_DESCRIPTION = """
Train variants one after the other on the same data, from the same seed, in the same order of batches, and compare
them. RUN gets a folder per variant (checkpoints, events.jsonl) and training_comparison.json: loss curves, what the
gates did at every evaluation, the ranking, and what produced it all. Ctrl-C finishes the step, saves and exits;
--resume goes on from there. Any field of the model and of the training is an option; --size, --recipe and --config
set several at once. Tasks with known answers: `ddl data --help` lists them.
"""

_EXAMPLES = """
  ddl train --recipe quick
  ddl train --data book.txt --tokenizer bpe --recipe quick --out runs/book
  ddl train --variants all --data 'texts/*.txt' --tokenizer bpe --size small
  ddl train --size 124m --recipe paper --train.seed 1 --device cuda
  ddl train --data synth:parity:train=3-40,test=40-256 --train.max-steps 1000
  ddl train --resume runs/book --train.max-steps 2000
"""

_FIXED_BY_A_RUN = ("variants", "tokenizer", "out")


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    command = ("ddl", "train", *arguments)
    if options.resume is None:
        comparison, out = _train(options, command)
    else:
        comparison, out = _resume(options, command)
    _show(comparison, out)


def _parser() -> Parser:
    parser = Parser("train [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--variants", metavar="NAMES", help="all, or some of them, as ddl,ddl-cc [ddl-cc]")
    parser.add_data()
    parser.add_tokenizer()
    parser.add_argument("--out", metavar="RUN", help="the new folder of this run [runs/train-1, -2, …]")
    parser.add_argument("--resume", metavar="RUN|CHECKPOINT", help="continue all unfinished variants of a run, or one")
    parser.add_device()
    parser.add_configs()
    return parser


def new_folder(kind: str) -> Path:
    """The first of runs/KIND-1, runs/KIND-2, … that does not exist."""
    return next(path for number in numbers(1) if not (path := Path("runs") / f"{kind}-{number}").exists())


def _train(options: argparse.Namespace, command: Sequence[str]) -> tuple[TrainingComparison, Path]:
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

        with TrainingProgress() as progress:
            asked = {"data_spec": options.data, "device": device, "reporter": progress, "command": command}
            return train(configs, training, data, out, **asked), out
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


def _resume(options: argparse.Namespace, command: Sequence[str]) -> tuple[TrainingComparison, Path]:
    for name in _FIXED_BY_A_RUN:
        if vars(options)[name] is not None:
            raise ConfigError(f"a resumed run keeps what it was started with; leave --{name} out")
    for name in options.settings.tables["model"]:
        raise ConfigError(f"a resumed run keeps its models; leave model.{name} out")
    changes = options.settings.tables["train"]
    options.settings.training()
    device = resolve_device(options.device)
    from deep_delta.cli.progress import TrainingProgress
    from deep_delta.training.run import resume

    with TrainingProgress() as progress:
        asked = {"data_spec": options.data, "device": device, "reporter": progress, "command": command}
        comparison = resume(options.resume, changes=changes, **asked)
    given = Path(options.resume)
    is_run = RunFolder(given).comparison.exists()
    return comparison, given if is_run else RunFolder.around(resolve_checkpoint(given)).path


def _show(comparison: TrainingComparison, out: Path) -> None:
    from deep_delta.cli.console import out as screen
    from deep_delta.cli.tables import last_accuracies, last_spectra, show_accuracies, show_gates, show_training
    from deep_delta.data.synthetic.tasks import is_task, parse_task

    show_training(comparison.ranking, [comparison])
    is_text = not is_task(comparison.data.name)
    if not is_text:
        show_accuracies(last_accuracies(comparison.runs), parse_task(comparison.data.name).rule.chance)
    show_gates(last_spectra(comparison.runs))
    screen.print(f"The run is in {out}. Next:", soft_wrap=True)
    data = "OTHER.txt" if is_text else comparison.data.name
    screen.print(f"  ddl compare {out}/*/checkpoints/LATEST --data {data}", soft_wrap=True)
    best = comparison.ranking.standings[0].variant if comparison.ranking.standings else comparison.runs[0].variant
    screen.print(f'  ddl generate {out}/{best} --prompt "…"', soft_wrap=True)
