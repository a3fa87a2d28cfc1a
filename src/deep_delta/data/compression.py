"""Files as they are stored: plain, or compressed as gz, bz2, xz or zst; told by their suffix and read as a stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from deep_delta.errors import ConfigError, DataError

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError)


def unpacked_suffix(path: Path) -> str:
    """What kind of file it is inside, in lower case: .jsonl of a `book.jsonl.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSED else path.suffix.lower()


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked as they are read; memory does not grow with the file.

    `DataError` where what is compressed is damaged or cut, `ConfigError` where zst is asked for without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED:
        with path.open("rb") as file:
            yield file
        return
    try:
        with _opened(path, suffix) as file:
            yield file
    except _DAMAGE as error:
        raise _damaged(path, suffix, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, suffix, error) from None


def _opened(path: Path, suffix: str) -> BinaryIO:
    match suffix:
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".bz2":
            return cast(BinaryIO, bz2.open(path, "rb"))
        case ".xz":
            return cast(BinaryIO, lzma.open(path, "rb"))
    try:
        import pyarrow as pa
    except ImportError:
        raise ConfigError(
            f"reading {path} needs pyarrow, which is not installed: pip install 'deep-delta-learning[data]'"
        ) from None
    return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(path.open("rb"), "zstd")))


def _damaged(path: Path, suffix: str, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} is no whole {suffix.removeprefix('.')} file: {reason}; copy it again or leave it out")
