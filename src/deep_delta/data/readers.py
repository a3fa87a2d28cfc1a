"""Reads files as documents, in pieces of bounded size, and says exactly where a file is not text.

A document is a whole text file, or one `text` field of a jsonl or parquet file. It comes as a sequence of pieces, cut
where a line begins, so that memory does not grow with the document and a tokenizer sees whole lines. Line ends, tabs
and all else stay as they are in the file; only a UTF-8 byte order mark is dropped.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from deep_delta.data.compression import COMPRESSED, open_unpacked, unpacked_suffix
from deep_delta.errors import ConfigError, DataError

PIECE_SIZE = 1 << 18  # characters that a piece aims at; the tokenizers' time grows faster than a longer unbroken word
LONGEST_LINE = 1 << 28  # bytes of one jsonl line, which must fit into memory
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Piece(NamedTuple):
    """A part of a document; never empty, at most twice `PIECE_SIZE` characters."""

    text: str
    begins: bool  # the first piece of its document


def read_documents(path: Path) -> Iterator[Piece]:
    """The documents of one file, by its suffix: .jsonl and .ndjson, .parquet, everything else plain text.

    Text and jsonl may be compressed, as in book.jsonl.gz; bytes and lines are then counted in what is unpacked.
    DataError names the file and the byte, line or row that is wrong; empty documents are left out.
    """
    try:
        yield from _READERS.get(unpacked_suffix(path), _text)(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the file or leave it out") from None


def _text(path: Path) -> Iterator[Piece]:
    with open_unpacked(path) as file:
        yield from _pieces(_decoded(file, path))


def _decoded(file: BinaryIO, path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0  # offset in the file of the first byte that the decoder has not yet turned into text
    while True:
        block = file.read(PIECE_SIZE)
        if start == 0 and block.startswith(_UTF16):
            raise DataError(f"{path} is UTF-16, not UTF-8, at byte 0; convert it, as with iconv -f UTF-16 -t UTF-8")
        pending = len(decoder.getstate()[0])
        if (zero := block.find(b"\0")) >= 0:
            raise DataError(f"{path} is binary: a zero byte at byte {start + pending + zero}; give a text file")
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            bad = error.object[error.start]
            raise DataError(
                f"{path} is not UTF-8: 0x{bad:02x} at byte {start + error.start} ({error.reason}); "
                "convert it to UTF-8 or leave it out"
            ) from None
        yield text.removeprefix("\ufeff") if start == 0 else text
        if not block:
            return
        start += pending + len(block) - len(decoder.getstate()[0])


def _jsonl(path: Path) -> Iterator[Piece]:
    with open_unpacked(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise DataError(f"{path} line {number} is longer than {LONGEST_LINE >> 20} MiB; break it up")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield from _slices(_text_field(line, f"{path} line {number}"))


def _text_field(line: bytes, where: str) -> str:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8: 0x{line[error.start]:02x} at byte {error.start} of the line") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict) or "text" not in value:
        raise DataError(f'{where} has no "text"; every line must be an object such as {{"text": "..."}}')
    return _checked(value["text"], where)


def _parquet(path: Path) -> Iterator[Piece]:
    if path.suffix.lower() in COMPRESSED:
        raise DataError(f"{path} is a compressed parquet file, which cannot be read as a stream; unpack it first")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(
            f"reading {path} needs pyarrow, which is not installed: pip install 'deep-delta-learning[data]'"
        ) from None
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names) or "none"
                raise DataError(f'{path} has no column "text"; its columns are: {names}')
            for batch in file.iter_batches(batch_size=256, columns=["text"]):
                for value in batch.column(0):
                    row += 1
                    yield from _slices(_checked(value.as_py(), f"{path} row {row}"))
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a readable parquet file: {_first_line(error)}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} row {row} is not UTF-8 at byte {error.start} of its text") from None


def _checked(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f'"text" must be a string, got {type(value).__name__} in {where}')
    if not _encodes(value):
        raise DataError(f"{where} holds half of a surrogate pair, which is no character; repair its escapes")
    return value


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _slices(text: str) -> Iterator[Piece]:
    return _pieces(text[at : at + PIECE_SIZE] for at in range(0, len(text), PIECE_SIZE))


def _pieces(blocks: Iterable[str]) -> Iterator[Piece]:
    """One document from blocks of at most PIECE_SIZE characters, cut anew where lines begin."""
    rest, begins = "", True
    for block in blocks:
        rest += block
        cut = _line_start(rest) if len(rest) >= PIECE_SIZE else 0
        if cut:
            yield Piece(rest[:cut], begins)
            rest, begins = rest[cut:], False
    if rest:
        yield Piece(rest, begins)


def _line_start(text: str) -> int:
    """Where the last line begins that starts with no white space (byte-level BPE cuts there too), else the end."""
    newline = text.rfind("\n", 0, len(text) - 1)
    while newline >= 0 and text[newline + 1].isspace():
        newline = text.rfind("\n", 0, newline)
    return newline + 1 or len(text)


_READERS: dict[str, Callable[[Path], Iterator[Piece]]] = {".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
