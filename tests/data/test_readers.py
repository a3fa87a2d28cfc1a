from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.data import readers
from deep_delta.data.readers import PIECE_SIZE, Piece, read_documents
from deep_delta.errors import ConfigError, DataError


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _documents(path: Path) -> list[str]:
    documents: list[str] = []
    for piece in read_documents(path):
        if piece.begins:
            documents.append("")
        documents[-1] += piece.text
    return documents


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"one\ntwo", "one\ntwo"),
        (b"\xef\xbb\xbfone", "one"),
        (b"one\xef\xbb\xbf", "one\ufeff"),
        (b"a\r\nb\rc\n", "a\r\nb\rc\n"),
        ("äöü 字 🙂\n".encode(), "äöü 字 🙂\n"),
    ],
    ids=["plain", "byte order mark", "mark elsewhere", "line ends kept", "utf-8"],
)
def test_a_text_file_is_one_document_as_it_stands(tmp_path, content, text):
    assert _documents(_write(tmp_path / "a.txt", content)) == [text]


def test_an_empty_file_has_no_document(tmp_path):
    assert _documents(_write(tmp_path / "a.txt", b"")) == []
    assert _documents(_write(tmp_path / "b.txt", b"\xef\xbb\xbf")) == []


@pytest.mark.parametrize("offset", [0, 1, 1000, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE - 2])
@pytest.mark.parametrize("before", [b"a", "é".encode(), "字".encode()], ids=["ascii", "two bytes", "three bytes"])
def test_a_bad_byte_is_named_with_its_offset_in_the_file(tmp_path, offset, before):
    valid = before * (offset // len(before))
    valid += b"." * (offset - len(valid))
    path = _write(tmp_path / "bad.txt", valid + b"\xff" + b"more text" * 10)
    with pytest.raises(DataError, match=rf"bad\.txt is not UTF-8: 0xff at byte {offset} "):
        _documents(path)


@pytest.mark.parametrize("offset", [0, 5, PIECE_SIZE - 1, PIECE_SIZE, 2 * PIECE_SIZE + 7])
def test_a_character_that_the_file_cuts_off_is_bad(tmp_path, offset):
    path = _write(tmp_path / "cut.txt", b"x" * offset + "字".encode()[:2])
    with pytest.raises(DataError, match=rf"0xe5 at byte {offset} \(unexpected end of data\)"):
        _documents(path)


@pytest.mark.parametrize("offset", [0, 17, PIECE_SIZE - 1, PIECE_SIZE + 3])
def test_a_zero_byte_means_a_binary_file(tmp_path, offset):
    path = _write(tmp_path / "image.png", "é".encode() * (offset // 2) + b"a" * (offset % 2) + b"\0\1")
    with pytest.raises(DataError, match=rf"image\.png is binary: a zero byte at byte {offset};"):
        _documents(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused(tmp_path, encoding):
    with pytest.raises(DataError, match=r"UTF-16|binary"):
        _documents(_write(tmp_path / "a.txt", "hello".encode(encoding)))


@given(text=st.text(max_size=400), size=st.integers(1, 50))
def test_pieces_put_together_are_the_file(tmp_path_factory, text, size):
    text = text.replace("\0", "").lstrip("\ufeff")
    if text.encode()[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    path = _write(tmp_path_factory.mktemp("text") / "a.txt", text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "PIECE_SIZE", size)
        pieces = list(read_documents(path))
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.begins for piece in pieces] == [number == 0 for number in range(len(pieces))]
    assert all(0 < len(piece.text) <= 2 * size for piece in pieces)


def test_long_documents_are_cut_where_lines_begin(tmp_path):
    line = "word " * 20 + "\n    indented\n"
    pieces = list(read_documents(_write(tmp_path / "a.txt", (line * 20000).encode())))
    assert len(pieces) > 5
    assert all(piece.text.endswith("\n") and piece.text.startswith("word") for piece in pieces)


def test_one_huge_line_comes_in_bounded_pieces(tmp_path):
    pieces = list(read_documents(_write(tmp_path / "a.txt", b"title\n" + b"x" * 5_000_000)))
    assert sum(len(piece.text) for piece in pieces) == 5_000_006
    assert max(len(piece.text) for piece in pieces) <= 2 * PIECE_SIZE


def test_jsonl_gives_a_document_a_line(tmp_path):
    content = b'\xef\xbb\xbf{"text": "one", "id": 1}\r\n\n{"text": ""}\n  \n{"text": "a\\nb\\u0000\\ud83d\\ude42"}'
    assert _documents(_write(tmp_path / "a.jsonl", content)) == ["one", "a\nb\0🙂"]
    assert _documents(_write(tmp_path / "a.NDJSON", content)) == ["one", "a\nb\0🙂"]


def test_a_long_document_of_a_jsonl_comes_in_pieces(tmp_path):
    text = "line\n" * 200_000
    path = _write(tmp_path / "a.jsonl", (json.dumps({"text": text}) + "\n" + json.dumps({"text": "next"})).encode())
    pieces = list(read_documents(path))
    assert [piece.begins for piece in pieces] == [True, *[False] * (len(pieces) - 2), True]
    assert "".join(piece.text for piece in pieces[:-1]) == text
    assert pieces[-1] == Piece("next", True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "line 3 is not JSON: "),
        (b"plain text", "line 3 is not JSON: "),
        (b"[" * 100_000, "line 3 is not JSON: "),
        (b"1" * 10_000, "line 3 is not JSON: "),
        (b'{"txt": "a"}', 'line 3 has no "text"'),
        (b'["text"]', 'line 3 has no "text"'),
        (b'"text"', 'line 3 has no "text"'),
        (b'{"text": null}', '"text" must be a string, got NoneType in .* line 3'),
        (b'{"text": 3}', '"text" must be a string, got int in .* line 3'),
        (b'{"text": "\\ud800"}', "line 3 holds half of a surrogate pair"),
        (b'{"text": "\xff"}', "line 3 is not UTF-8: 0xff at byte 10 of the line"),
    ],
    ids=["cut", "text", "nested", "number", "other field", "list", "string", "null", "int", "surrogate", "bytes"],
)
def test_a_broken_line_of_a_jsonl_is_named(tmp_path, line, message):
    path = _write(tmp_path / "a.jsonl", b'{"text": "fine"}\n\n' + line + b'\n{"text": "fine"}\n')
    with pytest.raises(DataError, match=message) as caught:
        _documents(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_jsonl_line_beyond_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "LONGEST_LINE", 1 << 20)
    path = _write(tmp_path / "a.jsonl", b'{"text": "fine"}\n{"text": "' + b"x" * (1 << 20) + b'"}\n')
    with pytest.raises(DataError, match="line 2 is longer than 1 MiB"):
        _documents(path)


def _parquet(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_parquet_gives_a_document_a_row(tmp_path):
    texts = ["one", "", "two\r\n", "字"]
    assert _documents(_parquet(tmp_path / "a.parquet", id=[1, 2, 3, 4], text=texts)) == ["one", "two\r\n", "字"]


def test_what_is_wrong_with_a_parquet_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r'no column "text"; its columns are: body, id'):
        _documents(_parquet(tmp_path / "a.parquet", body=["a"], id=[1]))
    with pytest.raises(DataError, match=r"got NoneType in .*b\.parquet row 3"):
        _documents(_parquet(tmp_path / "b.parquet", text=["a", "b", None]))
    with pytest.raises(DataError, match=r"got int in .*c\.parquet row 1"):
        _documents(_parquet(tmp_path / "c.parquet", text=[1]))
    with pytest.raises(DataError, match=r"d\.parquet is not a readable parquet file"):
        _documents(_write(tmp_path / "d.parquet", b"PAR1 and nothing of it"))
    with pytest.raises(DataError, match=r"e\.parquet is not a readable parquet file"):
        _documents(_write(tmp_path / "e.parquet", b""))


def test_bad_bytes_in_a_parquet_string_are_named(tmp_path):
    bad = pa.array([b"fine", b"ab\xff"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 2 is not UTF-8 at byte 2"):
        _documents(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = _parquet(tmp_path / "a.parquet", text=["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"deep-delta-learning\[data\]"):
        _documents(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone\.txt: No such file"):
        _documents(tmp_path / "gone.txt")
    with pytest.raises(DataError, match="cannot read /proc/self/mem: Input/output error"):
        _documents(Path("/proc/self/mem"))
    if os.geteuid():
        locked = _write(tmp_path / "locked.txt", b"text")
        locked.chmod(0)
        with pytest.raises(DataError, match="Permission denied"):
            _documents(locked)
