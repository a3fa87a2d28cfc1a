"""Which checkpoints the words of a command line mean, and short names for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deep_delta.runs.layout import RunFolder, resolve_checkpoint
from deep_delta.runs.manifest import read_manifest


def checkpoint_folders(given: str) -> list[Path]:
    """The folders that one argument means; a run stands for the latest checkpoint of each of its variants, and a folder
    of several seeds for those of each seed."""
    run = RunFolder(Path(given))
    runs = [run] if run.comparison.exists() else list(run.seeds().values())
    if runs:
        return [latest for one in runs for variant in one.variants() if (latest := variant.latest())]
    return [resolve_checkpoint(given)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """Names that tell the checkpoints apart: variant, or run/variant, or run/variant@step, or the path."""
    manifests = [read_manifest(folder) for folder in folders]
    runs = [RunFolder.around(folder).path for folder in folders]
    kinds = [
        [one.variant for one in manifests],
        [f"{run.name}/{one.variant}" for run, one in zip(runs, manifests, strict=True)],
        [f"{run.name}/{one.variant}@{one.step}" for run, one in zip(runs, manifests, strict=True)],
    ]
    return next((names for names in kinds if len(set(names)) == len(names)), [str(folder) for folder in folders])
