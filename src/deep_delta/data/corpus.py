"""A corpus: documents of text, a hash of all of them, and a split into train and validation without a leak."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, NamedTuple, NoReturn, Protocol, get_args

import numpy as np

from deep_delta.data.files import embedded, find_files
from deep_delta.data.language.text import open_language
from deep_delta.data.readers import Piece
from deep_delta.data.split import BUCKETS, HELD_OUT_PART, Split, bucket_of
from deep_delta.errors import ConfigError, DataError

SplitName = Literal["train", "validation"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


class Source(Protocol):
    """Where text comes from. A new kind of corpus implements this and gets a row in `SCHEMES`."""

    @property
    def name(self) -> str: ...

    def pieces(self) -> Iterator[Piece]:
        """Every document, in pieces of bounded size; the same ones each time. DataError where it cannot be used."""
        ...


class Count(NamedTuple):
    """How much text there is."""

    documents: int
    num_bytes: int


class Corpus:
    """Documents of a source, read anew at each pass: nothing of the text is kept in memory.

    Constructing one reads everything once, so that text that cannot be used (`DataError`) is found before any training.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        digest, num_bytes, bucket = hashlib.sha256(), np.zeros(BUCKETS, np.int64), 0
        for piece in source.pieces():
            if piece.begins:
                bucket = bucket_of(piece.text)
            num_bytes[bucket] += _update(digest, piece)
        if not num_bytes.any():
            raise DataError(f"{self.name} is empty: it holds no text to train on; give another corpus")
        self.sha256 = digest.hexdigest()
        self._split = Split.of(num_bytes)

    def pieces(self, split: SplitName) -> Iterator[Piece]:
        """The documents of one split, in pieces; DataError at the end when the text is not what it was at first."""
        for name, piece in self._assigned():
            if name == split:
                yield piece

    def documents(self, split: SplitName) -> Iterator[str]:
        """The documents of one split, each in one string. `pieces` does not need the memory of a long one."""
        parts: list[str] = []
        for piece in self.pieces(split):
            if piece.begins and parts:
                yield "".join(parts)
                parts.clear()
            parts.append(piece.text)
        if parts:
            yield "".join(parts)

    def num_documents(self, split: SplitName) -> int:
        """Documents in one split; a document that is cut by position counts in both."""
        return self._counts[split].documents

    def num_bytes(self, split: SplitName) -> int:
        """Bytes of UTF-8 text in one split."""
        return self._counts[split].num_bytes

    @cached_property
    def _counts(self) -> dict[SplitName, Count]:
        counts = dict.fromkeys(SPLITS, Count(0, 0))
        for name, piece in self._assigned():
            before = counts[name]
            counts[name] = Count(before.documents + piece.begins, before.num_bytes + len(piece.text.encode()))
        return counts

    def _assigned(self) -> Iterator[tuple[SplitName, Piece]]:
        """Every piece with its split, in the order of the source."""
        digest, bucket, tail_begins = hashlib.sha256(), 0, True
        head_lengths, left = iter(self._head_lengths), 0
        for piece in self._source.pieces():
            _update(digest, piece)
            if piece.begins:
                bucket = bucket_of(piece.text)
                if bucket == self._split.cut:
                    left, tail_begins = next(head_lengths, 0), True
            if bucket != self._split.cut:
                yield "validation" if bucket in self._split.held_out else "train", piece
                continue
            head, tail = piece.text[:left], piece.text[left:]
            left -= len(head)
            if head:
                yield "train", Piece(head, piece.begins)
            if tail:
                yield "validation", Piece(tail, tail_begins)
                tail_begins = False
        if digest.hexdigest() != self.sha256:
            raise DataError(f"{self.name} changed while it was read; start again when nothing writes to it")

    @cached_property
    def _head_lengths(self) -> list[int]:
        """Characters that go to train of each document that is cut by position; the rest, a tenth, is held out."""
        if self._split.cut is None:
            return []
        lengths, bucket = [], 0
        for piece in self._source.pieces():
            if piece.begins:
                bucket = bucket_of(piece.text)
                if bucket == self._split.cut:
                    lengths.append(0)
            if bucket == self._split.cut:
                lengths[-1] += len(piece.text)
        return [length - length // HELD_OUT_PART for length in lengths]


def open_corpus(spec: str | None = None) -> Corpus:
    """The corpus that `--data` means: a text, jsonl or parquet file, a folder, a glob; None is the embedded corpus.

    ConfigError for a kind that this version does not read, DataError for text that is missing or cannot be used.
    """
    if spec is None:
        return Corpus(embedded())
    if not spec:
        raise ConfigError("data must name a file, a folder or a glob, got an empty text")
    opener = next((opener for pattern, opener in SCHEMES.items() if fnmatchcase(spec, pattern)), find_files)
    try:
        source = opener(spec)
    except OSError as error:
        raise DataError(f"cannot read {spec[:200]}: {error.strerror or error}; check the path") from None
    return Corpus(source)


def _update(digest: hashlib._Hash, piece: Piece) -> int:
    """Hash a piece so that documents stay apart (0xff is in no UTF-8 text); returns its bytes."""
    content = piece.text.encode()
    if piece.begins:
        digest.update(b"\xff")
    digest.update(content)
    return len(content)


def _not_yet(what: str) -> Callable[[str], NoReturn]:
    def refuse(spec: str) -> NoReturn:
        raise ConfigError(f"{spec}: {what} are not in this version; give a text, jsonl or parquet file or a folder")

    return refuse


def _no_text(spec: str) -> NoReturn:
    raise ConfigError(f"{spec[:60]} is a task and has no text; give a text, jsonl or parquet file or a folder")


# What `--data` accepts besides files, folders and globs: a pattern of the whole spec, and what opens it as a `Source`.
SCHEMES: dict[str, Callable[[str], Source]] = {
    "hf:*": _not_yet("data sets streamed from the Hugging Face hub"),
    "synth:language*": open_language,
    "synth:*": _no_text,
    "*.bin": _not_yet("token shards"),
}
