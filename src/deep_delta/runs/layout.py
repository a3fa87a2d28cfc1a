"""Where things lie in a run folder, who may write to it, and which folder a user means by "a checkpoint".

RUN/                              one run, one writer at a time (.lock)
  training_comparison.json        what came out of it
  <slug>/                         one variant
    events.jsonl                  what happened, in order
    checkpoints/
      LATEST                      one line: the name of the newest complete checkpoint
      step-N/                     see `checkpoint_files`; step-N.2, step-N.3 … when step N was saved again

The same run from several seeds is a folder of runs: RUN/seed-0, RUN/seed-1 and so on, each named by its seed.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.runs.events import EventLog
from deep_delta.runs.storage import make_folder, read_regular, storage_errors, write_all

LATEST = "LATEST"
CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
BEST = "best_validation"
_LOCK = ".lock"
_STEP_NAME = re.compile(r"step-(0|[1-9][0-9]{0,17})(?:\.([2-9]|[1-9][0-9]{1,8}))?")
_SEED_NAME = re.compile(r"seed-(0|[1-9][0-9]{0,18})")
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class VariantFolder:
    """The part of a run that belongs to one variant."""

    path: Path

    @property
    def slug(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """The folder of step-N folders; `write_checkpoint` creates it."""
        return self.path / CHECKPOINTS

    @property
    def events(self) -> EventLog:
        return EventLog(self.path / "events.jsonl")

    def latest(self) -> Path | None:
        """The newest complete checkpoint, None when nothing was saved yet. CheckpointError when LATEST is damaged."""
        return latest_checkpoint(self.checkpoints)


@dataclass(frozen=True)
class RunFolder:
    """A run on disk; constructing one touches nothing."""

    path: Path

    @property
    def comparison(self) -> Path:
        """RUN/training_comparison.json; write it with `storage.atomic_write`."""
        return self.path / "training_comparison.json"

    def of_seed(self, seed: int) -> RunFolder:
        """Where the run from this seed lies, in the folder of a run from several."""
        return RunFolder(self.path / f"seed-{seed}")

    def seeds(self) -> dict[int, RunFolder]:
        """The runs in this folder by their seed, in order; none where this is a run itself, or no folder."""
        if not self.path.is_dir() or self.comparison.exists():
            return {}
        found = ((_SEED_NAME.fullmatch(entry.name), RunFolder(entry)) for entry in self.path.iterdir())
        runs = {int(match[1]): run for match, run in found if match and run.comparison.exists()}
        return dict(sorted(runs.items(), key=lambda entry: entry[0]))

    @property
    def whole(self) -> Path:
        """The path that continues this run: the folder of all its seeds where it is one of several."""
        around = RunFolder(self.path.parent)
        return around.path if _SEED_NAME.fullmatch(self.path.name) and len(around.seeds()) > 1 else self.path

    @classmethod
    def around(cls, checkpoint: Path) -> RunFolder:
        """The run that a step-N or best_validation folder lies in, told by its path alone."""
        step = checkpoint.resolve()
        if step.name == BEST:
            step = step.parent
        return cls(step.parent.parent.parent)  # the parent of / is /

    def create(self) -> RunFolder:
        """Make the folder for a new run. ConfigError when something is there already, StorageError from the disk."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; choose a folder for the run")
        if self.path.is_dir() and any(entry.name != _LOCK for entry in self.path.iterdir()):
            raise ConfigError(
                f"{self.path} exists and is not empty; continue it with --resume or choose another folder"
            )
        make_folder(self.path)
        return self

    def open(self) -> RunFolder:
        """The folder of a run that exists. CheckpointError when it does not."""
        if not self.path.is_dir():
            raise CheckpointError(f"there is no run folder {self.path}; check the path, or start it without --resume")
        return self

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer; the system drops the lock when the process ends, however it ends.

        ConfigError when another process writes to this run.
        """
        path = self.path / _LOCK
        with storage_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with storage_errors(path):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    owner = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
                    raise ConfigError(
                        f"another process (pid {owner}) is writing to {self.path}; wait for it or choose another folder"
                    ) from None
                os.ftruncate(descriptor, 0)
                write_all(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    def variant(self, slug: str) -> VariantFolder:
        """The folder of one variant. ConfigError when the slug cannot be a folder name."""
        if not _SLUG.fullmatch(slug):
            raise ConfigError(f"a variant's name has lower-case letters, digits, - and _, got {slug!r}")
        return VariantFolder(self.path / slug)

    def variants(self) -> list[VariantFolder]:
        """The variants that this run has begun, by name."""
        folders = sorted(entry for entry in self.path.iterdir() if _SLUG.fullmatch(entry.name) and entry.is_dir())
        found = [VariantFolder(folder) for folder in folders]
        return [variant for variant in found if variant.events.path.exists() or variant.checkpoints.exists()]


@dataclass(frozen=True, order=True)
class StepName:
    """The name of a checkpoint folder: the step, and which saving of it (1 is written without a number)."""

    step: int
    revision: int = 1

    def __str__(self) -> str:
        return f"step-{self.step}" if self.revision == 1 else f"step-{self.step}.{self.revision}"

    @classmethod
    def parse(cls, name: str) -> StepName | None:
        match = _STEP_NAME.fullmatch(name)
        return cls(int(match[1]), int(match[2] or 1)) if match else None


def step_names(checkpoints: Path) -> list[StepName]:
    """The step-N folders (not links to folders) in `checkpoints`, oldest step first."""
    if not checkpoints.is_dir():
        return []
    folders = (entry for entry in checkpoints.iterdir() if entry.is_dir() and not entry.is_symlink())
    return sorted(name for entry in folders if (name := StepName.parse(entry.name)))


def latest_checkpoint(checkpoints: Path) -> Path | None:
    """The folder that LATEST names; before the first LATEST, the newest complete folder; None when there is none.

    CheckpointError when LATEST is not one line naming a folder beside it.
    """
    pointer = checkpoints / LATEST
    if not os.path.lexists(pointer):
        complete = [name for name in step_names(checkpoints) if (checkpoints / str(name) / MANIFEST).exists()]
        return checkpoints / str(complete[-1]) if complete else None
    return _follow(pointer)


def resolve_checkpoint(path: str | Path) -> Path:
    """The checkpoint folder that a user means by `path`, not yet verified (see `checkpoint_files.verify`).

    Accepted: a step-N or best_validation folder, a LATEST file, a checkpoints folder, a variant's folder.
    CheckpointError, naming what would do, for anything else.
    """
    path = Path(path)
    if path.is_file():
        return _follow(path)
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint {path}; give a step-N folder or a LATEST file")
    if os.path.lexists(path / MANIFEST):
        return path
    for checkpoints in (path, path / CHECKPOINTS):
        if checkpoints.is_dir() and (latest := latest_checkpoint(checkpoints)):
            return latest
    inside = [variant.slug for variant in RunFolder(path).variants()]
    if inside:
        raise CheckpointError(f"{path} is a run of {', '.join(inside)}; choose one, as {path / inside[0]}")
    raise CheckpointError(f"{path} holds no checkpoint; give a step-N folder or a LATEST file")


def _follow(pointer: Path) -> Path:
    """The folder that a LATEST file names."""
    text = read_regular(pointer, limit=100)
    name = StepName.parse(text.decode("ascii", "replace").removesuffix("\n"))
    if name is None:
        raise CheckpointError(f"{pointer} must hold one line such as step-100, got {text[:40]!r}; name a step-N folder")
    folder = pointer.parent / str(name)
    if folder.is_symlink() or not folder.is_dir():
        others = ", ".join(map(str, step_names(pointer.parent))) or "none"
        raise CheckpointError(f"{pointer} names {name}, which is not a folder there; complete ones may be: {others}")
    return folder
