"""A corpus as token ids on disk, and as training data: a `Dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np

from deep_delta.data.batches import Batches, HeldOut
from deep_delta.data.cache import cached
from deep_delta.data.corpus import SPLITS, Corpus, SplitName, open_corpus
from deep_delta.data.language.text import SPEC as LANGUAGE
from deep_delta.data.language.text import TOKENIZER as LANGUAGE_TOKENIZER
from deep_delta.data.loader import Loader, validation_batches
from deep_delta.data.readers import Piece
from deep_delta.data.tokenizer import Tokenizer, byte_tokenizer, require_vocabulary, train_bpe
from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.manifest import DataIdentity
from deep_delta.runs.record import Record

BPE_VOCABULARY = 4096
_FORMAT = 2  # change it when the same text and tokenizer give other tokens or batches
_SCANNED = 1 << 24  # tokens that are looked at at once
_CONTEXT = 16  # tokens before a sample, on which the blank before its first word may depend
_BATCH = 1 << 20  # characters that are tokenized at once; a tokenizer needs about 40 times their memory


@dataclass(frozen=True)
class TokenFile:
    """Token ids in the cache. tokens: uint16 or uint32, read from disk as they are used."""

    path: Path
    tokens: np.ndarray


class SplitFacts(Record):
    """How much there is of one split. bytes_per_token: None when there are no tokens."""

    documents: int
    num_bytes: int
    tokens: int
    bytes_per_token: float | None


class DataFacts(Record):
    """What `ddl data` shows."""

    corpus: str
    corpus_sha256: str
    tokenizer: str
    tokenizer_sha256: str
    vocab_size: int
    sha256: str
    train: SplitFacts
    validation: SplitFacts


@dataclass(frozen=True)
class Dataset:
    """A corpus, a tokenizer, and what the one makes of the other, as `batches.TrainingData`.

    validation: None when nothing could be held out. validation_bytes: bytes of text that each of its tokens stands for.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    train: np.ndarray
    validation: np.ndarray | None
    validation_bytes: np.ndarray | None

    @property
    def sha256(self) -> str:
        """Of corpus and tokenizer: equal hashes, equal tokens."""
        return _key(self.corpus.sha256, self.tokenizer.sha256)

    @property
    def identity(self) -> DataIdentity:
        """Of the text and of what cuts it."""
        return DataIdentity(
            name=self.corpus.name,
            sha256=self.corpus.sha256,
            tokenizer=self.tokenizer.name,
            tokenizer_sha256=self.tokenizer.sha256,
            layout=_FORMAT,
        )

    def context(self, seq_len: int) -> int:
        """Text is evaluated in the same windows that it is trained in."""
        return seq_len

    def training_batches(self, *, batch_size: int, seq_len: int, seed: int) -> Batches:
        """See `TrainingData`. DataError when the split is shorter than one sequence and its last target."""
        beginnings = _places(self.train, self.tokenizer.end_of_text)
        return Loader(self.train, batch_size=batch_size, seq_len=seq_len, seed=seed, beginnings=beginnings)

    def held_out(self, *, batch_size: int, seq_len: int, seed: int, limit: int) -> HeldOut:
        """See `TrainingData`: the validation split; without one only the probe, the first training batch."""
        if self.validation is None or self.validation_bytes is None:
            first, _ = self.training_batches(batch_size=batch_size, seq_len=seq_len, seed=seed).batch(0)
            return HeldOut((), first, ())
        end_of_text = self.tokenizer.end_of_text
        batches = validation_batches(
            self.validation, batch_size=batch_size, seq_len=seq_len, end_of_text=end_of_text, limit=limit
        )
        return HeldOut(batches, batches.probe, batches.num_bytes(self.validation_bytes))

    def tokens(self, split: SplitName) -> np.ndarray:
        """The ids of one split; an empty array when there are none."""
        chosen = self.train if split == "train" else self.validation
        return np.empty(0, self.train.dtype) if chosen is None else chosen

    def facts(self) -> DataFacts:
        """Documents, bytes, tokens and hashes. Reads the corpus once."""
        train, validation = (self._split_facts(split) for split in SPLITS)
        return DataFacts(
            corpus=self.corpus.name,
            corpus_sha256=self.corpus.sha256,
            tokenizer=self.tokenizer.name,
            tokenizer_sha256=self.tokenizer.sha256,
            vocab_size=self.tokenizer.vocab_size,
            sha256=self.sha256,
            train=train,
            validation=validation,
        )

    def sample(self, split: SplitName = "train", *, start: int = 1, num_tokens: int = 64) -> list[str]:
        """What each of some tokens adds to the text: a character comes with its last byte, an end of text is "".

        Token 0 is the end of text before the first document.
        """
        stream, ids = self.tokenizer.stream(), self.tokens(split)
        for index in ids[max(0, start - _CONTEXT) : start].tolist():
            stream.push(index)
        return [stream.push(index) for index in ids[start : start + num_tokens].tolist()]

    def _split_facts(self, split: SplitName) -> SplitFacts:
        num_bytes, tokens = self.corpus.num_bytes(split), len(self.tokens(split))
        return SplitFacts(
            documents=self.corpus.num_documents(split),
            num_bytes=num_bytes,
            tokens=tokens,
            bytes_per_token=num_bytes / tokens if tokens else None,
        )


def prepare(spec: str | None = None, tokenizer: str | None = None, *, fixed: Tokenizer | None = None) -> Dataset:
    """Open a corpus (see `open_corpus`), get its tokenizer and tokenize both splits, all through the cache.

    tokenizer: "byte", which None means too (but for synth:language, which is cut into words); "bpe" or "bpe:N", trained
    on the train split, 4,096 tokens unless told otherwise; or a tokenizer.json. fixed: a tokenizer that is there
    already, as when a run resumes; `tokenizer` then does not count.
    ConfigError, DataError and StorageError come from here, before anything is trained.
    """
    if tokenizer is None and spec is not None and spec.startswith(LANGUAGE):
        tokenizer = LANGUAGE_TOKENIZER
    get_tokenizer = (lambda _corpus: fixed) if fixed else _tokenizer_getter(tokenizer)
    corpus = open_corpus(spec)
    found = get_tokenizer(corpus)
    train, validation = (tokenize(corpus, found, split).tokens for split in SPLITS)
    if len(train) < 3:
        count = max(0, len(train) - 1)
        plural = "" if count == 1 else "s"
        raise DataError(f"{corpus.name} has {count} token{plural} to train on; a sequence needs at least 2")
    if not len(validation):
        return Dataset(corpus, found, train, None, None)
    return Dataset(corpus, found, train, validation, _token_bytes(corpus, found, "validation"))


def tokenize(corpus: Corpus, tokenizer: Tokenizer, split: SplitName) -> TokenFile:
    """The ids of one split, every document after a `tokenizer.end_of_text`; memory does not grow with the corpus.

    Kept in the cache under the hashes of corpus and tokenizer. DataError when the corpus changed since it was opened,
    StorageError when the cache cannot be written.
    """

    def write(file: BinaryIO) -> None:
        end_of_text = np.array([tokenizer.end_of_text], tokenizer.dtype)
        for pieces in _batches(corpus.pieces(split)):
            for piece, ids in zip(pieces, tokenizer.encode_batch([piece.text for piece in pieces]), strict=True):
                if piece.begins:
                    file.write(end_of_text.data)
                file.write(ids.data)

    path = cached(f"{split}-{_key(corpus.sha256, tokenizer.sha256)}-{tokenizer.dtype.name}.bin", write)
    return TokenFile(path, _read(path, tokenizer.dtype))


def _token_bytes(corpus: Corpus, tokenizer: Tokenizer, split: SplitName) -> np.ndarray:
    """Bytes of text that each token of a split stands for, uint32, none for an end of text; kept in the cache too.

    Those of a piece that has no tokens count with the token after it.
    """

    def write(file: BinaryIO) -> None:
        end_of_text, carried = np.zeros(1, np.uint32), 0
        for pieces in _batches(corpus.pieces(split)):
            for piece, counts in zip(pieces, tokenizer.count_bytes([piece.text for piece in pieces]), strict=True):
                if piece.begins:
                    file.write(end_of_text.data)
                if not counts.size:
                    carried += len(piece.text.encode())
                    continue
                counts[0] += carried
                carried = 0
                file.write(counts.data)

    return _read(cached(f"{split}-{_key(corpus.sha256, tokenizer.sha256)}-bytes.bin", write), np.dtype(np.uint32))


def _read(path: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)


def _places(tokens: np.ndarray, wanted: int) -> np.ndarray:
    """Where a token is, int64; of a long text only a part is in memory at a time."""
    parts = range(0, len(tokens), _SCANNED)
    return np.concatenate([start + np.flatnonzero(tokens[start : start + _SCANNED] == wanted) for start in parts])


def _tokenizer_getter(spec: str | None) -> Callable[[Corpus], Tokenizer]:
    """Check a tokenizer spec before the corpus is read."""
    if spec is None or spec == "byte":
        return lambda _corpus: byte_tokenizer()
    kind, colon, size = spec.partition(":")
    if kind == "bpe":
        if colon and not (size.isascii() and size.isdigit()):
            raise ConfigError(f"tokenizer bpe:SIZE needs a whole number, as bpe:4096, got {spec!r}")
        vocab_size = int(size[:12]) if colon else BPE_VOCABULARY
        require_vocabulary(vocab_size)
        return lambda corpus: _trained_bpe(corpus, vocab_size)
    if not Path(spec).is_file():
        raise ConfigError(f"tokenizer must be byte, bpe, bpe:SIZE or the path of a tokenizer.json, got {spec!r}")
    loaded = Tokenizer.load(spec)
    return lambda _corpus: loaded


def _trained_bpe(corpus: Corpus, vocab_size: int) -> Tokenizer:
    """Trained on the train split alone, so that nothing of the validation text is in it; from the cache if it can."""

    def write(file: BinaryIO) -> None:
        trained = train_bpe((piece.text for piece in corpus.pieces("train")), vocab_size)
        file.write(trained.to_json().encode())

    path = cached(f"bpe-{vocab_size}-{_key(corpus.sha256, version('tokenizers'))}.tokenizer", write)
    return Tokenizer.load(path)


def _batches(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _key(*parts: str) -> str:
    return hashlib.sha256("/".join((str(_FORMAT), *parts)).encode()).hexdigest()[:40]
