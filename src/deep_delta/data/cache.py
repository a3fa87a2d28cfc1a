"""Files that can be made again, kept between runs: tokens and trained tokenizers.

Every file has a stamp beside it, written after it, with its size and sha256. A file whose stamp does not fit is made
anew and never used. Writers need no lock: a name says what the content is, so two of them write the same bytes, each
to a file of its own that replaces the other's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from deep_delta.errors import DataError, StorageError
from deep_delta.paths import VARIABLE, cache_folder
from deep_delta.runs.record import Record
from deep_delta.runs.storage import TEMPORARY, sync

_STALE_SECONDS = 86400
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


class Stamp(Record):
    """What a cached file must be."""

    format_version: Literal[1]
    size: int
    sha256: str


def cached(name: str, write: Callable[[BinaryIO], None]) -> Path:
    """The file `name` of the cache, which `write` makes when it is missing or damaged; checked against its stamp.

    StorageError when it has to be written and cannot be.
    """
    path = cache_folder() / name
    if not _is_whole(path):
        with _replacing(path) as file:
            write(file)
            stamp = _stamp(file)
        with _replacing(_stamp_path(path)) as file:
            file.write(stamp.to_json().encode())
    return path


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            wanted = Stamp.from_json(_stamp_path(path).read_bytes(), error=DataError, where=str(_stamp_path(path)))
            whole = os.fstat(file.fileno()).st_size == wanted.size and _stamp(file) == wanted
    except FileNotFoundError:
        return False
    except (OSError, DataError) as error:
        _log.warning("cannot use the cached %s, making it again: %s", path, error)
        return False
    if not whole:
        _log.warning("the cached %s is damaged, making it again", path)
    return whole


def _stamp(file: BinaryIO) -> Stamp:
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return Stamp(format_version=1, size=size, sha256=digest.hexdigest())


def _stamp_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once it is whole and on disk; nothing stays of one that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.name, dir=path.parent)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise
        sync(path.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; make room or name another folder in {VARIABLE}"
        ) from error


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind; files of running ones are younger."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
