"""`ddl eval`: what saved models get right, beyond the loss."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deep_delta.cli.checkpoints import checkpoint_folders, short_names
from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser, whole
from deep_delta.cli.settings import comma_list
from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.comparison import TrainingComparison
from deep_delta.runs.layout import RunFolder
from deep_delta.runs.storage import atomic_write
from deep_delta.runs.suites import ScoredModel

if TYPE_CHECKING:
    import torch

    from deep_delta.evaluation.suites.examinee import Examinee
    from deep_delta.models.transformer import DdlTransformer

_DESCRIPTION = """
Ask saved models questions whose answers are known; nothing is downloaded. Of a model of text: which of two sentences is
likelier, a grammatical one or one that differs from it in a word (17 phenomena; train on --data synth:language for a
model that has met the words). Of a model of a task: its answers, at the lengths of training and beyond. Beside every
score stand chance, the majority's answer, and what counts of one, two and five words of the same training text get;
several models are compared on the same questions. --tasks runs lm-evaluation-harness instead.
"""

_EXAMPLES = """
  ddl eval runs/language
  ddl eval runs/language/ddl-cc --suite agreement,filler_gap --pairs 200
  ddl eval runs/parity --save runs/parity/suites.json
  ddl eval runs/book/ddl-cc --tasks my_task --include-path my_tasks
"""


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    _check(options)
    folders = _different(folder for given in options.checkpoints for folder in checkpoint_folders(given))
    if not folders:
        raise DataError("nothing to evaluate: give one or more checkpoints, or the folder of a run")
    names = short_names(folders)

    from deep_delta.cli.console import notes
    from deep_delta.cli.eval_tables import show_suites
    from deep_delta.evaluation.suites.run import evaluate_suites, evaluate_tasks
    from deep_delta.training.provenance import origin

    device = resolve_device(options.device)
    examinees = list(_examinees(folders, names, device))
    with notes.status("evaluating") as status:
        if options.tasks:
            include = Path(options.include_path) if options.include_path else None
            tasks = comma_list(options.tasks)
            results = evaluate_tasks(examinees, origin(device), tasks, include=include, limit=options.limit)
        else:
            results = evaluate_suites(
                examinees, origin(device), names=comma_list(options.suite), pairs=options.pairs,
                sequences=options.sequences, told=lambda name: status.update(f"evaluating {name}"),
            )  # fmt: skip
    if options.save:
        atomic_write(Path(options.save), results.to_json())
    if options.json:
        print(results.to_json(), end="")
    else:
        show_suites(results)


def _parser() -> Parser:
    parser = Parser("eval CHECKPOINT… [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="step-N folders, LATEST files, or RUN for all its variants (and seeds)",
    )
    parser.add_argument(
        "--suite",
        default="all",
        metavar="NAMES",
        help="language, logic, families, phenomena or tasks, as agreement,there [all]",
    )
    parser.add_argument("--pairs", type=whole, default=1000, metavar="INT", help="of each phenomenon and split [1000]")
    parser.add_argument("--sequences", type=whole, default=256, metavar="INT", help="of a task, at each length [256]")
    parser.add_argument("--tasks", metavar="NAMES", help="tasks of lm-evaluation-harness instead, as arc_easy,my_task")
    parser.add_argument("--include-path", metavar="DIR", help="a folder with task files of your own, for --tasks")
    parser.add_argument("--limit", type=whole, metavar="INT", help="only the first samples of each of --tasks")
    parser.add_argument(
        "--save", metavar="FILE", help="also write the results as JSON; in a run's folder, for ddl report"
    )
    parser.add_argument("--json", action="store_true", help="print the JSON in place of tables")
    parser.add_device()
    return parser


def _check(options: argparse.Namespace) -> None:
    for name, most in (("pairs", 1000), ("sequences", 1_000_000)):
        if not 1 <= getattr(options, name) <= most:
            raise ConfigError(f"--{name} must be from 1 to {most:,}, got {getattr(options, name)}")
    if options.pairs % 2:
        raise ConfigError(f"--pairs must be even, since pairs come in crossed groups of two, got {options.pairs}")
    if options.save and (Path(options.save).is_dir() or not Path(options.save).absolute().parent.is_dir()):
        raise ConfigError(f"--save must be a file in a folder that there is, got {options.save}")
    if options.tasks is not None and not all(comma_list(options.tasks)):
        raise ConfigError(f"--tasks names tasks, as arc_easy,my_task, got {options.tasks!r}")
    for name in ("limit", "include_path"):
        if getattr(options, name) is not None and not options.tasks:
            raise ConfigError(f"--{name.replace('_', '-')} is for --tasks, which is not given")
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {options.limit}")
    if options.include_path and not Path(options.include_path).is_dir():
        raise ConfigError(f"--include-path must be a folder, and there is none at {options.include_path}")
    if not options.tasks:
        from deep_delta.evaluation.suites.names import check_names

        check_names(comma_list(options.suite))


def _different(folders: Iterable[Path]) -> list[Path]:
    """Each once, under the path by which it was given first."""
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _examinees(folders: Sequence[Path], names: Sequence[str], device: torch.device) -> Iterator[Examinee]:
    """The saved models; each is read once here, so that a damaged one is told before anything is evaluated."""
    from functools import partial

    from deep_delta.evaluation.seeds import Trained
    from deep_delta.evaluation.suites.examinee import Examinee
    from deep_delta.training.checkpoint import load_checkpoint

    for folder, name in zip(folders, names, strict=True):
        model, tokenizer, manifest = load_checkpoint(folder, "cpu")
        trained = Trained.of(name, manifest)
        about = ScoredModel(
            name=name, path=str(folder), variant=manifest.variant, seed=trained.seed,
            step=manifest.step, data=manifest.data,
        )  # fmt: skip
        limit = model.config.context_limit
        yield Examinee(about, tokenizer, partial(_model, folder, device), limit, _data_spec(folder), trained)


def _model(folder: Path, device: torch.device) -> DdlTransformer:
    from deep_delta.training.checkpoint import load_checkpoint

    return load_checkpoint(folder, device)[0]


def _data_spec(folder: Path) -> str | None:
    """What the run said of its data; None where the run's comparison is not there."""
    comparison = RunFolder.around(folder).comparison
    return TrainingComparison.read(comparison).data_spec if comparison.exists() else None
