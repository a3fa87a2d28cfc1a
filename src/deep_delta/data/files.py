"""Which files a user means: one file, a folder, a glob, or the embedded corpus. Files are sorted by relative path."""

from __future__ import annotations

import glob
import os
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deep_delta.data.readers import Piece, read_documents
from deep_delta.errors import DataError

# Besides tests and what is not the library's own: `encodings` is a hundred generated tables that nearly repeat each
# other, so that half of them would give the other half away.
_NOT_EMBEDDED = {
    "test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings",
}  # fmt: skip
# Written when this Python was built; they hold the paths and compiler of one machine.
_OF_ONE_MACHINE = ("config-", "_sysconfigdata", "_sysconfig_vars")


@dataclass(frozen=True)
class Files:
    """A source of documents: files in a fixed order."""

    name: str
    paths: tuple[Path, ...]

    def pieces(self) -> Iterator[Piece]:
        """Every document, in pieces; the same ones every time. DataError as in `read_documents`."""
        for path in self.paths:
            yield from read_documents(path)


def embedded() -> Files:
    """The source of the running interpreter's standard library, without its tests: real text that needs no download.

    DataError when this Python was installed without its source.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _NOT_EMBEDDED and not _of_one_machine(name))
        candidates = (Path(folder, name) for name in names if name.endswith(".py") and not _of_one_machine(name))
        paths += [path for path in candidates if path.is_file() and not path.is_symlink()]
    if not paths:
        raise DataError(f"this Python has no source of its standard library in {root}; give a corpus with --data")
    return Files(f"python-{platform.python_version()}-stdlib", _in_order(root, paths))


def find_files(spec: str) -> Files:
    """A file, all files below a folder (hidden ones left out), or what a glob matches.

    DataError when there is nothing, or when something of it is no regular file.
    """
    try:
        path = Path(spec).expanduser()
    except RuntimeError as error:  # ~name of nobody
        raise DataError(f"cannot read {spec}: {error}") from None
    if path.is_dir():
        return Files(path.resolve().name or "root", _in_order(path, _walk(path)))
    if not os.path.lexists(path) and glob.has_magic(spec):
        paths = _matches(path)
        if not paths:
            raise DataError(f"no file matches {spec!r}; a relative pattern starts at {Path.cwd()}")
    else:
        paths = [path]
    for each in paths:
        _require_regular(each)
    return Files(path.name, tuple(paths))


def _matches(pattern: Path) -> list[Path]:
    """What a glob matches, folders and hidden files left out; `**` goes through no links, which may lead in circles."""
    fixed = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
    base, parts = Path(*pattern.parts[:fixed]), pattern.parts[fixed:]
    if parts[-1] == "**":
        parts = (*parts, "*")
    try:
        found = {path for path in base.glob(str(Path(*parts))) if not path.is_dir()}
    except ValueError as error:
        raise DataError(f"{str(pattern)!r} is no pattern: {error}") from None
    if not any(part.startswith(".") for part in parts):
        found = {path for path in found if not any(part.startswith(".") for part in path.relative_to(base).parts)}
    return sorted(found, key=Path.as_posix)


def _walk(root: Path) -> list[Path]:
    """Files below `root`, through links to folders too, but never twice through the same folder."""
    paths, seen = [], {_identity(root)}
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_unreadable):
        unseen = []
        for name in sorted(folders):
            identity = _identity(Path(folder, name))
            if not name.startswith(".") and identity not in seen:
                seen.add(identity)
                unseen.append(name)
        folders[:] = unseen
        paths += [Path(folder, name) for name in names if not name.startswith(".")]
    if not paths:
        raise DataError(f"folder {root} holds no files; hidden ones are left out")
    for path in paths:
        _require_regular(path)
    return paths


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _unreadable(error: OSError) -> None:
    raise DataError(f"cannot read folder {error.filename}: {error.strerror}; check its permissions") from None


def _require_regular(path: Path) -> None:
    if path.is_file():
        return
    if path.exists():
        raise DataError(f"{path} is neither a file nor a folder; give a text, jsonl or parquet file")
    if path.is_symlink():
        raise DataError(f"{path} is a link that leads nowhere; remove it or repair it")
    raise DataError(f"there is no file {path}; check the path, which starts at {Path.cwd()} when it is relative")


def _of_one_machine(name: str) -> bool:
    return name.startswith(_OF_ONE_MACHINE)


def _in_order(root: Path, paths: list[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda path: path.relative_to(root).as_posix()))
