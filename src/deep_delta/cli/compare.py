"""`ddl compare`: saved models on one text, ranked by bits per byte, or on one task, ranked by wrong answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deep_delta.cli.checkpoints import checkpoint_folders, short_names
from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser, whole
from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.manifest import read_manifest
from deep_delta.runs.storage import atomic_write

if TYPE_CHECKING:
    import torch

    from deep_delta.data.synthetic.task import Task
    from deep_delta.evaluation.compare import Candidate, Comparison
    from deep_delta.evaluation.compare_answers import AnswersComparison

_DESCRIPTION = """
Evaluate checkpoints on the same text: loss and perplexity per token, bits per byte (which compares models whatever
their tokenizers), parameters, counted FLOPs per token, and what the gates did. Every model predicts the same excerpts,
spread evenly over the split. "Not resolved" means that the text at hand does not tell two models apart. Where a variant
is there from several seeds, the variants are ranked over seeds too. On a task (--data synth:TASK), every model reads
the same sequences, and its right answers are counted by length.
"""

_EXAMPLES = """
  ddl compare runs/book/*/checkpoints/LATEST --data other.txt
  ddl compare runs/seeds --data other.txt
  ddl compare runs/book --max-bytes 1000000 --save result.json
  ddl compare runs/parity --data synth:parity:test=64-512
  ddl compare runs/a/ddl-cc runs/b/ddl-cc/checkpoints/step-100/best_validation
"""

_MAX_BYTES = 1 << 18
_SEQUENCES = 256


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    task = _task(options)
    folders = [folder for given in options.checkpoints for folder in checkpoint_folders(given)]
    if not folders:
        raise DataError("nothing to evaluate: give one or more checkpoints, or the folder of a run")
    names = short_names(folders)
    comparison: Comparison | AnswersComparison
    if task is None:
        comparison = _compare(options, folders, names)
        _show(comparison)
    else:
        comparison = _compare_answers(options, task, folders, names)
        _show_answers(comparison)
    if options.save:
        atomic_write(Path(options.save), comparison.to_json())


def _parser() -> Parser:
    parser = Parser("compare CHECKPOINT… [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "checkpoints",
        nargs="*",
        metavar="CHECKPOINT",
        help="step-N folders, LATEST files, or RUN for all its variants (and seeds)",
    )
    parser.add_data()
    parser.add_argument(
        "--split",
        choices=("validation", "train", "all"),
        help="[validation of a text that one of the checkpoints was trained on, all of any other]",
    )
    parser.add_argument("--max-bytes", type=whole, metavar="INT", help="evaluate on about so much text [262144]")
    parser.add_argument("--sequences", type=whole, metavar="INT", help="of a task, at each of its lengths [256]")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="[fp32]")
    parser.add_argument("--save", metavar="FILE", help="also write the result, spectra included, as JSON")
    parser.add_device()
    return parser


def _task(options: argparse.Namespace) -> Task | None:
    """The task that --data names, None for a text. `ConfigError` where an option is not for it."""
    from deep_delta.data.synthetic.tasks import is_task, parse_task

    task = parse_task(options.data) if is_task(options.data) else None
    for option, given, fits in (
        ("--split", options.split, task is None),
        ("--max-bytes", options.max_bytes, task is None),
        ("--sequences", options.sequences, task is not None),
    ):
        if given is not None and not fits:
            raise ConfigError(f"{option} is not for {'a text' if task is None else 'a task'}; leave it out")
        if isinstance(given, int) and given < 1:
            raise ConfigError(f"{option} must be at least 1, got {given}")
    return task


def _compare(options: argparse.Namespace, folders: Sequence[Path], names: Sequence[str]) -> Comparison:
    from deep_delta.data.corpus import open_corpus
    from deep_delta.evaluation.compare import Part, compare

    corpus = open_corpus(options.data)
    is_trained_on = corpus.sha256 in {read_manifest(folder).data.sha256 for folder in folders}
    split: Part = options.split or ("validation" if is_trained_on else "all")
    return compare(
        _candidates(options, folders, names),
        corpus,
        split=split,
        max_bytes=options.max_bytes or _MAX_BYTES,
        precision=options.precision,
    )


def _compare_answers(
    options: argparse.Namespace, task: Task, folders: Sequence[Path], names: Sequence[str]
) -> AnswersComparison:
    from deep_delta.evaluation.compare_answers import compare_answers

    return compare_answers(
        _candidates(options, folders, names),
        task,
        num_sequences=options.sequences or _SEQUENCES,
        precision=options.precision,
    )


def _candidates(options: argparse.Namespace, folders: Sequence[Path], names: Sequence[str]) -> Iterable[Candidate]:
    """Loaded one at a time, under a progress bar."""
    from rich.progress import track

    from deep_delta.cli.console import notes

    return track(
        _load(folders, names, resolve_device(options.device)),
        "evaluating",
        total=len(folders),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )


def _load(folders: Sequence[Path], names: Sequence[str], device: torch.device) -> Iterator[Candidate]:
    from deep_delta.evaluation.compare import Candidate
    from deep_delta.evaluation.seeds import Trained
    from deep_delta.training.checkpoint import load_checkpoint
    from deep_delta.training.config import TrainingConfig

    for folder, name in zip(folders, names, strict=True):
        model, tokenizer, manifest = load_checkpoint(folder, device)
        seq_len = TrainingConfig.model_validate(manifest.training).seq_len
        trained = Trained.of(name, manifest)
        yield Candidate(name, manifest.variant, manifest.step, model, tokenizer, seq_len, trained)


def _show(comparison: Comparison) -> None:
    from deep_delta.cli.console import count, show_table
    from deep_delta.cli.tables import show_gates, show_seeds, unresolved

    rows = [
        [
            row.name,
            f"{row.bits_per_byte:.4f}",
            f"{row.loss:.4f}",
            "–" if row.perplexity is None else f"{row.perplexity:,.2f}",
            count(row.parameters),
            count(row.flops_per_token),
        ]
        for row in comparison.rows
    ]
    columns = ["<checkpoint", "bits/byte", "loss", "perplexity", "parameters", "FLOPs/token"]
    text = f"{comparison.num_bytes:,} bytes of {comparison.data} ({comparison.split})"
    show_table(f"On {text}, best first", columns, rows, unresolved(comparison.ranking))
    show_seeds(comparison.seeds, comparison.seeds_problem)
    show_gates(_gates(comparison))


def _show_answers(comparison: AnswersComparison) -> None:
    from deep_delta.cli.console import count, show_table
    from deep_delta.cli.tables import show_accuracies, show_gates, show_seeds, unresolved

    rows = [
        [row.name, f"{standing.mean:.4f}", f"{row.loss:.4f}", count(row.parameters), count(row.flops_per_token)]
        for row, standing in zip(comparison.rows, comparison.ranking.standings, strict=True)
    ]
    columns = ["<checkpoint", "wrong answers", "loss", "parameters", "FLOPs/token"]
    show_table(f"On {comparison.data}, best first", columns, rows, unresolved(comparison.ranking))
    show_seeds(comparison.seeds, comparison.seeds_problem)
    show_accuracies({row.name: row.accuracies for row in comparison.rows}, comparison.chance)
    show_gates(_gates(comparison))


def _gates(comparison: Comparison | AnswersComparison) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Of every model; of every variant where they are ranked over seeds."""
    from deep_delta.cli.tables import mean_gates

    if comparison.seeds is None:
        return {row.name: row.spectra for row in comparison.rows}
    return mean_gates((row.variant, row.spectra) for row in comparison.rows)
