"""Checkpoint folders: written so that a kill at any moment loses none, verified before anything in them is used.

    step-N/
      <files>              what the caller's writers wrote
      manifest.json        size and sha256 of each (see `manifest`)
      best_validation/     a smaller folder of the same kind, hard-linked where its files exist already

The order of a save, each step safe on the disk before the next begins: a temporary folder beside the others → files →
manifest → fsync of each → fsync of the folder → rename to an unused name → fsync of the parent → LATEST → prune.
Nothing from the rename on needs room: the new LATEST is written before it, beside the old one, and only takes its name.
A named folder is never written to again. When step N exists already, because a resumed run has come to it once more,
the new save becomes step-N.2 (.3, …), unless it equals the existing one bit for bit, which then stays and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deep_delta.errors import CheckpointError, ConfigError, StorageError
from deep_delta.runs.layout import BEST, LATEST, MANIFEST, StepName, step_names
from deep_delta.runs.manifest import FileEntry, Manifest, read_manifest
from deep_delta.runs.storage import (
    TEMPORARY,
    hash_regular,
    link_or_copy,
    make_folder,
    remove,
    storage_errors,
    sync,
    write_new,
)

Writer = Callable[[Path], None]


@dataclass(frozen=True)
class Best:
    """A new best_validation: its step and, by name, a writer, or None for the checkpoint's own file of that name."""

    step: int
    files: Mapping[str, Writer | None]


def write_checkpoint(
    checkpoints: Path,
    manifest: Manifest,
    files: Mapping[str, Writer],
    *,
    best: Best | Path | None = None,
    keep: int,
) -> Path:
    """Save one checkpoint in the order above; returns its folder, step-`manifest.step` or a numbered sibling.

    manifest: all but `files`, `best_validation` and `digest`, which are filled in here. files: each writer creates the
    file at the path it is given. best: what best_validation holds, or the folder of an earlier one to carry on.
    keep: how many steps stay, this one included; later ones, left by a run that was then resumed from before them,
    stay until they are reached again. The caller holds the run's lock.
    StorageError when the disk refuses: LATEST and every earlier checkpoint are then untouched.
    """
    make_folder(checkpoints)
    with storage_errors(checkpoints):
        sweep(checkpoints)
    draft, pointer = checkpoints / f"{TEMPORARY}step-{manifest.step}", checkpoints / f"{TEMPORARY}{LATEST}"
    try:
        with storage_errors(draft):
            draft.mkdir()
            for name, write in files.items():
                write(draft / name)
            entry = _write_best(draft, manifest, best)
            manifest = _seal(draft, manifest.model_copy(update={"best_validation": entry}), files)
            folder = _choose_name(checkpoints, manifest)
            write_new(pointer, f"{folder.name}\n".encode())
            sync(pointer)
            if folder.exists():
                remove(draft)
            else:
                draft.rename(folder)
            sync(checkpoints)
            pointer.replace(checkpoints / LATEST)
            sync(checkpoints)
    except BaseException:
        for unfinished in (draft, pointer):
            with suppress(OSError):
                remove(unfinished)
        raise
    with storage_errors(checkpoints):
        _prune(checkpoints, folder.name, keep)
    return folder


def write_folder(folder: Path, manifest: Manifest, files: Mapping[str, Writer]) -> None:
    """Write one checkpoint at `folder`, which must not exist or be empty: whole, or not at all.

    ConfigError when something is there already, StorageError when the disk refuses.
    """
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise ConfigError(f"{folder} exists and is not empty; choose another folder")
    make_folder(folder.parent)
    draft = folder.with_name(TEMPORARY + folder.name)
    try:
        with storage_errors(draft):
            remove(draft)
            draft.mkdir()
            for name, write in files.items():
                write(draft / name)
            _seal(draft, manifest, files)
            draft.rename(folder)
            sync(folder.parent)
    except BaseException:
        with suppress(OSError):
            remove(draft)
        raise


def verify(folder: Path) -> Manifest:
    """Check every file of a checkpoint, best_validation included, against its manifest, which is returned.

    Each must be a plain file in the folder (nothing else is opened) of the stated size and sha256; files that the
    manifest does not list are not read. CheckpointError names the file and the remedy.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        _check(folder / name, entry)
    if manifest.best_validation is not None:
        inner = folder / BEST
        if manifest.kind == BEST or inner.is_symlink() or not inner.is_dir():
            raise CheckpointError(f"{inner} is not a folder of this checkpoint; use another checkpoint")
        _check(inner / MANIFEST, manifest.best_validation)
        best = verify(inner)
        if best.kind != BEST or best.variant != manifest.variant:
            raise CheckpointError(f"{inner} is not the best_validation of this checkpoint; use another checkpoint")
    return manifest


def sweep(checkpoints: Path) -> None:
    """Remove what saves that were killed left behind."""
    for entry in list(checkpoints.iterdir()):
        if entry.name.startswith(TEMPORARY):
            remove(entry)


def _write_best(draft: Path, manifest: Manifest, best: Best | Path | None) -> FileEntry | None:
    """Fill best_validation/ and return the entry of its manifest."""
    if best is None:
        return None
    inner = draft / BEST
    inner.mkdir()
    if isinstance(best, Path):
        for name in (*read_manifest(best).files, MANIFEST):
            link_or_copy(best / name, inner / name)
            sync(inner / name)
        sync(inner)
    else:
        for name, write in best.files.items():
            if write is None:
                link_or_copy(draft / name, inner / name)
            else:
                write(inner / name)
        _seal(inner, manifest.model_copy(update={"kind": BEST, "step": best.step}), best.files)
    return _entry(inner / MANIFEST)


def _seal(folder: Path, manifest: Manifest, names: Mapping[str, object]) -> Manifest:
    """Write the manifest over the files that lie in `folder`, and have the disk keep all of it."""
    sealed = manifest.model_copy(update={"files": {name: _entry(folder / name) for name in names}})
    write_new(folder / MANIFEST, sealed.to_bytes())
    for name in (*names, MANIFEST):
        sync(folder / name)
    sync(folder)
    return sealed


def _choose_name(checkpoints: Path, manifest: Manifest) -> Path:
    """An unused name for the finished draft; or an existing folder of its step that is the same and whole."""
    taken = [StepName.parse(entry.name) for entry in checkpoints.iterdir()]
    revisions = [name.revision for name in taken if name is not None and name.step == manifest.step]
    newest = checkpoints / str(StepName(manifest.step, max(revisions, default=1)))
    if revisions and _is_copy(newest, manifest):
        return newest
    return checkpoints / str(StepName(manifest.step, max(revisions, default=0) + 1))


def _is_copy(folder: Path, manifest: Manifest) -> bool:
    """Whether `folder` is whole and holds, bit for bit, what `manifest` says."""
    try:
        return not folder.is_symlink() and verify(folder).to_bytes() == manifest.to_bytes()
    except CheckpointError:
        return False


def _prune(checkpoints: Path, saved: str, keep: int) -> None:
    """Leave the last `keep` steps up to the saved one, each in its newest form. A folder loses its name first."""
    names = step_names(checkpoints)
    names = names[: 1 + [str(name) for name in names].index(saved)]
    newest = {name.step: name for name in names}
    kept = [newest[step] for step in sorted(newest)[-keep:]]
    for name in names:
        if name not in kept:
            doomed = checkpoints / f"{TEMPORARY}pruned-{name}"
            (checkpoints / str(name)).rename(doomed)
            remove(doomed)


def _entry(path: Path) -> FileEntry:
    try:
        size, sha256 = hash_regular(path)
    except CheckpointError as error:
        raise StorageError(f"cannot read back what was just written: {error}") from None
    return FileEntry(size=size, sha256=sha256)


def _check(path: Path, entry: FileEntry) -> None:
    size, sha256 = hash_regular(path)
    if size != entry.size:
        raise CheckpointError(f"{path} has {size} bytes, its manifest says {entry.size}; use another checkpoint")
    if sha256 != entry.sha256:
        raise CheckpointError(f"{path} is damaged (its sha256 is not the manifest's); use another checkpoint")
