"""What is compressed is read as what it holds, or refused as damaged; never as something else."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from deep_delta.data.compression import COMPRESSED
from deep_delta.data.corpus import Corpus
from deep_delta.data.files import find_files
from deep_delta.data.readers import PIECE_SIZE, read_documents
from deep_delta.errors import ConfigError, DataError


def zst(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(content)
    return packed.getvalue().to_pybytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zst,
}
TEXT = "".join(f"Line {number} of a book, with 字 and é.\n" for number in range(20_000))
LINES = "".join(json.dumps({"text": f"document {number}\n" * 3}) + "\n" for number in range(500))

assert tuple(PACK) == COMPRESSED
assert len(TEXT) > 2 * PIECE_SIZE


def pack(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize(("name", "content"), [("book.txt", TEXT), ("many.JSONL", LINES), ("none.txt", "")])
def test_it_holds_the_documents_that_the_plain_file_holds(tmp_path: Path, suffix: str, name: str, content: str):
    plain = pack(tmp_path, name, content.encode())
    packed = pack(tmp_path, name + suffix.upper(), PACK[suffix](content.encode()))
    assert list(read_documents(packed)) == list(read_documents(plain))


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_files_that_were_put_one_behind_the_other_are_read_to_the_end(tmp_path: Path, suffix: str):
    halves = TEXT[:300_000], TEXT[300_000:]
    packed = pack(tmp_path, f"both.txt{suffix}", b"".join(PACK[suffix](half.encode()) for half in halves))
    assert "".join(piece.text for piece in read_documents(packed)) == TEXT


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, suffix: str, share: float):
    content = PACK[suffix](TEXT.encode())
    path = pack(tmp_path, f"cut.txt{suffix}", content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"cut\.txt\{suffix} is no whole {suffix[1:]} file: .+; copy it again"):
        list(read_documents(path))


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_what_is_not_compressed_is_refused(tmp_path: Path, suffix: str):
    with pytest.raises(DataError, match="is no whole"):
        list(read_documents(pack(tmp_path, f"plain.txt{suffix}", TEXT.encode())))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_a_flipped_bit_is_seen_or_changes_nothing(tmp_path: Path, suffix: str):
    content = PACK[suffix](LINES.encode())
    whole = list(read_documents(pack(tmp_path, f"whole.jsonl{suffix}", content)))
    seen = 0
    for at in range(0, 8 * len(content), max(1, len(content) // 25)):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        path = pack(tmp_path, f"flipped.jsonl{suffix}", bytes(flipped))
        try:
            read = list(read_documents(path))
        except DataError:
            seen += 1
        else:
            assert read == whole
    assert seen > 100


def test_errors_inside_name_the_place_in_what_is_unpacked(tmp_path: Path):
    path = pack(tmp_path, "bad.txt.gz", gzip.compress(b"a" * 1000 + b"\xff"))
    with pytest.raises(DataError, match=r"bad\.txt\.gz is not UTF-8: 0xff at byte 1000 "):
        list(read_documents(path))
    path = pack(tmp_path, "bad.jsonl.gz", gzip.compress(b'{"text": "one"}\n{"txt": "two"}\n'))
    with pytest.raises(DataError, match=r'bad\.jsonl\.gz line 2 has no "text"'):
        list(read_documents(path))


def test_a_corpus_is_the_same_however_it_is_stored(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for number, suffix in enumerate(COMPRESSED):
        pack(tmp_path / "a", f"{number}.txt", TEXT[number:].encode())
        pack(tmp_path / "b", f"{number}.txt{suffix}", PACK[suffix](TEXT[number:].encode()))
    plain, packed = (Corpus(find_files(str(tmp_path / folder))) for folder in "ab")
    assert plain.sha256 == packed.sha256


def test_a_compressed_parquet_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="compressed parquet file, which cannot be read as a stream; unpack it"):
        list(read_documents(pack(tmp_path, "rows.parquet.gz", b"")))


def test_zst_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs pyarrow, which is not installed: pip install"):
        list(read_documents(pack(tmp_path, "a.txt.zst", zst(b"text"))))
