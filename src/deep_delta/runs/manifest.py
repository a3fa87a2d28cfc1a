"""manifest.json: what a checkpoint folder holds, byte for byte, and what it was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from deep_delta.errors import CheckpointError
from deep_delta.runs.layout import MANIFEST
from deep_delta.runs.record import Record
from deep_delta.runs.storage import read_regular

FORMAT_VERSION = 1
_LIMIT = 1 << 20
_SEAL = '  "digest": "'

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Scalar = bool | int | float | str | None


class FileEntry(Record):
    """Size in bytes and sha256 of one file."""

    size: int = Field(ge=0)
    sha256: Sha256


class DataIdentity(Record):
    """Which text or task, cut by which tokenizer: only equal identities are comparable step by step.

    layout: how training sequences are made of it. 2 for a text whose every document follows an end-of-text token, 1 for
    one of before that, where the first did not, and for a task.
    """

    name: str
    sha256: Sha256
    tokenizer: str
    tokenizer_sha256: Sha256
    layout: Annotated[int, Field(ge=1)] = 1


class Manifest(Record):
    """The last file written into a checkpoint, and the first one read.

    `model` and `training` are the fields of `DdlConfig` and `TrainingConfig`, which their owners validate. `files` has
    every other file of the folder by plain name, so nothing outside the folder can be named; `best_validation` is the
    entry of the inner folder's own manifest. `digest` is the sha256 of all bytes of the file before it, so that a
    flipped bit in the manifest itself is seen too; `to_bytes` fills it in.
    """

    format_version: int = FORMAT_VERSION
    kind: Literal["checkpoint", "best_validation"]
    step: int = Field(ge=0)
    variant: str
    model: dict[str, Scalar]
    training: dict[str, Scalar]
    versions: dict[str, str]
    data: DataIdentity
    files: dict[FileName, FileEntry]
    best_validation: FileEntry | None = None
    digest: str = ""

    @field_validator("format_version")
    @classmethod
    def _known(cls, version: int) -> int:
        if version != FORMAT_VERSION:
            raise ValueError(
                f"this program reads checkpoints of format version {FORMAT_VERSION}; "
                "use the version of deep-delta-learning that wrote it"
            )
        return version

    @field_validator("files")
    @classmethod
    def _not_itself(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        if MANIFEST in files:
            raise ValueError(f"{MANIFEST} may not list itself")
        return files

    def to_bytes(self) -> bytes:
        """The file's content, with the digest filled in."""
        body, seal, _ = self.model_copy(update={"digest": ""}).to_json().rpartition(_SEAL)
        return f'{body}{seal}{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'.encode()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Manifest:
        """Read `to_bytes` back. CheckpointError naming `where` when one bit differs or a field is not as above."""
        manifest = cls.from_json(content, error=CheckpointError, where=where)
        body, _, tail = content.rpartition(_SEAL.encode())
        if tail != f'{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode():
            raise CheckpointError(
                f"{where}: digest does not fit the content, which was changed; use another checkpoint"
            )
        return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder; its files are not looked at (see `checkpoint_files.verify`).

    CheckpointError when it is missing, not a plain file, damaged or of another format version.
    """
    path = folder / MANIFEST
    return Manifest.from_bytes(read_regular(path, limit=_LIMIT), where=str(path))
