"""Files that survive a kill, and errors of the disk as one line: the primitives under everything in `runs`. POSIX.

One writer at a time is assumed (`RunFolder.lock`). Whatever starts with `TEMPORARY` is unfinished or already
discarded: readers ignore it, and the next save sweeps it away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deep_delta.errors import CheckpointError, StorageError

TEMPORARY = ".tmp-"
_CHUNK = 1 << 20


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn any failure of the operating system while `path` is written into one line of `StorageError`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, reason: OSError | str) -> StorageError:
    """The one line for a failed write: file, the system's reason, remedy."""
    text = (reason.strerror or str(reason)) if isinstance(reason, OSError) else reason
    return StorageError(
        f"cannot write {path}: {text}; make room or choose another folder, what was saved before is whole"
    )


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` so that a reader, or a kill, sees the old or the new file, never a part.

    StorageError when the disk refuses; the old file is then as it was.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    with storage_errors(path):
        try:
            write_new(temporary, content.encode() if isinstance(content, str) else content)
            sync(temporary)
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a whole file, which is not yet safe from a power cut: `sync` it. OSError when the disk refuses."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """`os.write` until everything is written."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync(path: Path) -> None:
    """Have the disk keep a file's bytes, or a folder's names, before anything that follows."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link `target` to `source`, or copy it where the file system has no links between the two."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target, follow_symlinks=False)


def remove(path: Path) -> None:
    """Remove a file or a whole folder; links are removed, not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each new name synced. StorageError when the disk refuses."""
    with storage_errors(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            sync(folder.parent)


def require_space(path: Path, num_bytes: int) -> None:
    """StorageError unless the disk that holds `path` (which need not exist yet) has `num_bytes` free."""
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    with storage_errors(path):
        free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise StorageError(
            f"{path} needs {num_bytes / 1e6:,.1f} MB for its checkpoints and {free / 1e6:,.1f} MB are free; "
            "free some space, keep fewer checkpoints or choose another folder"
        )


@contextmanager
def open_regular(path: Path) -> Iterator[int]:
    """A descriptor for reading `path`, which must be a plain file: links, pipes and devices are never opened.

    CheckpointError names the file and what it is instead.
    """
    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"{path} is {_kind(mode)}, not a plain file; use another checkpoint")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; use another checkpoint") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CheckpointError(f"{path} was replaced while it was opened; use another checkpoint")
        yield descriptor
    finally:
        os.close(descriptor)


def read_regular(path: Path, *, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes, else CheckpointError."""
    with open_regular(path) as descriptor:
        chunks, size = [], 0
        while chunk := _read(descriptor, path):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise CheckpointError(f"{path} is longer than {limit} bytes, so it is not what its name says")
    return b"".join(chunks)


def hash_regular(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 of a plain file, in constant memory. CheckpointError when it is not one."""
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as descriptor:
        while chunk := _read(descriptor, path):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _read(descriptor: int, path: Path) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}; use another checkpoint") from None


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe, socket or device"
