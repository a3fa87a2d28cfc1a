"""`ddl inspect`: what the gates of a checkpoint do, and what happens to its loss when they are forced."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.inspect_options import open_documents, parse_changes, parse_layers, read_interventions
from deep_delta.cli.options import Parser, whole
from deep_delta.errors import CheckpointError, ConfigError, DataError
from deep_delta.runs.clock import now
from deep_delta.runs.inspection import CHANGES, InspectedModel, Inspection
from deep_delta.runs.layout import RunFolder, resolve_checkpoint
from deep_delta.runs.manifest import read_manifest
from deep_delta.runs.storage import atomic_write

if TYPE_CHECKING:
    from deep_delta.interventions import Documents
    from deep_delta.models.transformer import DdlTransformer

_DESCRIPTION = """
Look into a checkpoint: its gates by sublayer, token class and position, how alike the directions of its sublayers are,
how many value channels differ, and what its loss becomes when gates are forced, directions exchanged or sublayers
removed. Every change stands beside three of the same size: along a random direction, in another layer, and in an
untrained model. A change of one direction can wake pathways that the model never uses, so the removal of the whole
sublayer stands beside it too.
"""

_EXAMPLES = """
  ddl inspect runs/book/ddl-cc
  ddl inspect runs/book/ddl-cc --data other.txt --tokens 8192 --save found.json
  ddl inspect runs/book/ddl-cc --layers 0,2-3 --only gate_0,gate_mean
  ddl inspect runs/book/ddl-cc --places 'blocks.*.mlp.hook_beta'
"""

_TOKENS, _QUICK_TOKENS = 2048, 1024


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    _check_numbers(options)
    only, own = parse_changes(options.only), read_interventions(options.intervention)
    folder = _checkpoint(options.checkpoint)
    layers = parse_layers(options.layers, int(cast("int", read_manifest(folder).model["num_layers"])))

    from deep_delta.training.checkpoint import load_checkpoint

    model, tokenizer, manifest = load_checkpoint(folder, resolve_device(options.device))
    tokens = options.tokens or (_QUICK_TOKENS if options.quick else _TOKENS)
    documents, data, split = open_documents(options, model, tokenizer, manifest, tokens)
    if options.places:
        _show_places(model, documents, options.places)
        return

    from deep_delta.interventions import Subject, default_interventions, inspect_model
    from deep_delta.interventions.measuring import num_passes
    from deep_delta.training.provenance import origin

    subject = Subject(model, documents)
    interventions = own or default_interventions(model.config, layers, quick=options.quick and not only)
    if only:
        interventions = [one for one in interventions if one.what in only]
        if not interventions:
            raise ConfigError(f"residual {model.config.residual} has nothing for --only {','.join(only)}")
    with _progress(num_passes(subject, interventions)) as advance:
        found = inspect_model(subject, interventions, seed=options.seed, advance=advance)
    inspection = Inspection(
        date=now(),
        origin=origin(subject.device),
        model=InspectedModel(
            path=str(folder),
            variant=manifest.variant,
            seed=int(manifest.training.get("seed") or 0),
            step=manifest.step,
            residual=model.config.residual,
        ),
        data=data,
        split=split,
        documents=documents.num_documents,
        tokens=int(documents.asked.sum()),
        loss=found.loss,
        note=found.note,
        gates=tuple(found.gates),
        directions=found.directions,
        ranks=tuple(found.ranks),
        interventions=tuple(found.interventions),
    )
    if options.save:
        atomic_write(Path(options.save), inspection.to_json())
    if options.json:
        sys.stdout.write(inspection.to_json())
        return
    from deep_delta.cli.inspect_tables import show_inspection

    show_inspection(inspection)


def _check_numbers(options: argparse.Namespace) -> None:
    """What can be told to be wrong before anything is loaded."""
    if options.tokens is not None and options.tokens < 1:
        raise ConfigError(f"--tokens must be at least 1, got {options.tokens}")
    if not 0 <= options.seed < 2**63:
        raise ConfigError(f"--seed must be from 0 to 2^63 - 1, got {options.seed}")
    if options.save and not Path(options.save).absolute().parent.is_dir():
        raise ConfigError(f"--save {options.save}: there is no folder {Path(options.save).absolute().parent}")


def _parser() -> Parser:
    parser = Parser("inspect CHECKPOINT [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="a step-N folder, a LATEST file or a variant's folder"
    )
    parser.add_data()
    parser.add_argument(
        "--split",
        choices=("validation", "train", "all"),
        help="[validation of the text that it was trained on, all of any other]",
    )
    parser.add_argument("--tokens", type=whole, metavar="INT", help="look at about so many [2048; 1024 with --quick]")
    parser.add_argument("--layers", metavar="LIST", help="change these layers only, as 0,2-3 [all]")
    parser.add_argument("--only", metavar="LIST", help=f"of {', '.join(CHANGES)} [all that the residual has]")
    parser.add_argument(
        "--intervention",
        action="append",
        default=[],
        metavar="FILE",
        help="make these changes instead: a JSON object, or a list of them, as --save writes; repeatable",
    )
    parser.add_argument("--quick", action="store_true", help="four changes and fewer tokens")
    parser.add_argument(
        "--places", action="append", default=[], metavar="PATTERN", help="show these places of the model and leave"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="INT", help="of what is drawn for the controls [0]")
    parser.add_argument("--save", metavar="FILE", help="also write everything, with intervals, as JSON")
    parser.add_argument("--json", action="store_true", help="write that to stdout instead of the tables")
    parser.add_device()
    return parser


def _checkpoint(given: str | None) -> Path:
    if given is None:
        raise DataError("nothing to look at: give a checkpoint, or the folder of a trained variant")
    run = RunFolder(Path(given))
    if run.comparison.exists():
        variants = [variant for variant in run.variants() if variant.latest()]
        if len(variants) > 1:
            names = ", ".join(str(Path(given) / variant.slug) for variant in variants)
            raise CheckpointError(f"{given} has several checkpoints; give one of {names}")
        if variants and (latest := variants[0].latest()):
            return latest
    return resolve_checkpoint(given)


def _show_places(model: DdlTransformer, documents: Documents, patterns: Sequence[str]) -> None:
    """Names, shapes and sizes of some places on the first window."""
    import torch

    from deep_delta.cli.console import show_fitting
    from deep_delta.interventions import with_places

    device = next(model.parameters()).device
    with torch.no_grad():
        found = with_places(model, torch.from_numpy(documents.ids[:1]).to(device), patterns)
    rows = [
        [
            name,
            " × ".join(map(str, there.shape)),
            f"{there.mean().item():.4g}",
            f"{there.square().mean().sqrt().item():.4g}",
        ]
        for name, there in found.items()
    ]
    show_fitting("Places, on one window", ["<place", "<shape", "mean", "rms"], rows)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal."""
    from rich.progress import Progress

    from deep_delta.cli.console import notes

    with Progress(console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("looking", total=total)
        yield lambda: bar.advance(task)
