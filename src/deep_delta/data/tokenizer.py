"""Text to token ids and back: byte-level BPE (with or without merges), or whatever a tokenizer.json describes.

`tokenizers` splits and merges; this class adds what language modelling needs around it: the end-of-text token before
documents, the bytes of text that tokens stand for, and exact handling of text that happens to spell a special token.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from deep_delta.data.decoding import ByteStream, PieceStream, StreamDecoder
from deep_delta.data.vocabulary import BYTE_CHARACTERS, END_OF_TEXT, is_byte_level, token_pieces
from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.storage import storage_errors

MAX_VOCABULARY = 1 << 24
TRAINING_BYTES = 8_000_000  # of text that a BPE is trained on, at most, from the beginning of the corpus
# The trainer's time grows with the square of a word's length, and some text is one word: it is cut for training.
_LONG_WORD = re.compile(r"\S{1024}|\s{1024}")
_PARTS = re.compile(r" ?\S{1,256}|\s{1,256}")
PADDING = "<pad>"
_MIN_VOCABULARY = 257  # every byte, and the end of text


class Tokenizer:
    """A `tokenizers.Tokenizer`, with `end_of_text` and the byte counts of what it encodes.

    vocab_size: one more than the largest id. name: "byte", "bpe-4096", or the kind of model and its size, from the
    content alone, so that a saved copy has the same name. sha256: of the tokenizer's JSON with sorted keys.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, where: str = "this tokenizer") -> None:
        """Takes `backend` over: padding, truncation and the recognition of special tokens in text are switched off.

        DataError, naming `where`, when it has no end-of-text token.
        """
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self._backend = backend
        vocabulary = backend.get_vocab(with_added_tokens=True)
        end_of_text = next((token for token in END_OF_TEXT if token in vocabulary), None)
        if end_of_text is None:
            raise DataError(f"{where} has no end-of-text token; add one of {', '.join(END_OF_TEXT)}")
        backend.add_special_tokens([end_of_text])  # keeps its id; some files do not mark it as special
        self.end_of_text = vocabulary[end_of_text]
        content: dict[str, Any] = json.loads(backend.to_str())
        self.vocab_size = max(vocabulary.values()) + 1
        if self.vocab_size > MAX_VOCABULARY:
            raise DataError(f"{where} has an id {self.vocab_size - 1:,}; ids below {MAX_VOCABULARY:,} are supported")
        self.sha256 = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self._byte_level = is_byte_level(content)
        self._pieces = token_pieces(content, vocabulary) if self._byte_level else []
        self._is_bytes = self._byte_level and self._pieces == [*(bytes([byte]) for byte in range(256)), b""]
        kind = "bpe" if self._byte_level else str(content["model"]["type"]).lower()
        self.name = "byte" if self._is_bytes else f"{kind}-{self.vocab_size}"

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer.json. DataError when it is missing, damaged or has no end-of-text token."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise DataError(f"cannot read tokenizer {path}: {reason}; give byte, bpe or a tokenizer.json") from None
        return cls.from_json(text, where=f"tokenizer {path}")

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Tokenizer:
        """The tokenizer of a tokenizer.json's text. DataError, naming `where`, when it is none."""
        with _Refusals(f"{where} is not a tokenizer.json"):
            backend = tokenizers.Tokenizer.from_str(text)
        return cls(backend, where=where)

    def to_json(self) -> str:
        """The text of a tokenizer.json, which other tools read too."""
        return self._backend.to_str(pretty=True)

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json. StorageError when the disk refuses."""
        with storage_errors(Path(path)):
            Path(path).write_text(self.to_json(), encoding="utf-8")

    @property
    def dtype(self) -> np.dtype:
        """The smallest of uint16 and uint32 that holds every id."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; nothing is added, and a special token spelt out in the text is plain text.

        DataError when the text cannot be written as UTF-8 (half of a surrogate pair), or has a word that a tokenizer
        of whole words does not know.
        """
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"the text is not Unicode at character {error.start}: {text[error.start]!a}") from None
        if self._is_bytes:
            return list(content)
        with _Refusals(f"tokenizer {self.name} cannot encode {text[:60]!r}, which has an unknown symbol"):
            return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of several texts, each an array of `dtype`; on all cores where that helps."""
        if self._is_bytes:
            return [np.frombuffer(text.encode(), np.uint8).astype(self.dtype) for text in texts]
        with _Refusals(f"tokenizer {self.name} cannot encode a text, which has an unknown symbol"):
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=self.dtype) for encoding in encodings]

    def count_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Bytes of its text that each token of `encode_batch` stands for, uint32: together all that the text has.

        What no token stands for, as blanks between words, counts with the token after it, and at the end with the last
        one. Nothing depends on what tokens decode to. A text without tokens has no counts.
        """
        if self._is_bytes:
            return [np.ones(len(text.encode()), np.uint32) for text in texts]
        with _Refusals(f"tokenizer {self.name} cannot encode a text, which has an unknown symbol"):
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [
            _spans(text, [end for _, end in encoding.offsets]) for text, encoding in zip(texts, encodings, strict=True)
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; bytes that are no UTF-8, and ids without a token, become U+FFFD, special tokens "".

        `decode(encode(text)) == text` for byte-level tokenizers.
        """
        stream = self.stream()
        return "".join([*(stream.push(int(index)) for index in ids), stream.flush()])

    def stream(self) -> StreamDecoder:
        """Decodes ids one at a time, as they are generated, without ever splitting a character."""
        return ByteStream(self._pieces) if self._byte_level else PieceStream(self._backend, self.vocab_size)


def byte_tokenizer() -> Tokenizer:
    """One token a byte, id = byte, and end of text = 256: byte-level BPE without merges."""
    vocabulary = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
    return _finished(_byte_level(models.BPE(vocab=vocabulary, merges=[])))


def symbol_tokenizer(symbols: Sequence[str]) -> Tokenizer:
    """One token a symbol, id = its place, between blanks; then end of text, and `PADDING` as the last id.

    symbols: different words without white space. Text with another word in it is a DataError when encoded. Decoding
    puts a blank before every symbol, so that what is generated continues a prompt.
    """
    backend = tokenizers.Tokenizer(models.WordLevel(vocab={symbol: index for index, symbol in enumerate(symbols)}))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Replace(tokenizers.Regex("^"), " ")
    backend.add_special_tokens([END_OF_TEXT[0], PADDING])
    return Tokenizer(backend)


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of at most `vocab_size` tokens (fewer when the text offers no more pairs that repeat).

    Deterministic: the same texts in the same order give the same tokenizer, on any number of threads. It reads at most
    the first TRAINING_BYTES of text. ConfigError when vocab_size leaves no room for the bytes or is beyond reason.
    """
    require_vocabulary(vocab_size)
    backend = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # end of text comes last
        min_frequency=2,
        initial_alphabet=BYTE_CHARACTERS,
        show_progress=False,
    )
    backend.train_from_iterator(_first_bytes(texts), trainer)
    return _finished(backend)


def require_vocabulary(vocab_size: int) -> None:
    """ConfigError unless a BPE of so many tokens can be trained."""
    if not _MIN_VOCABULARY <= vocab_size <= MAX_VOCABULARY:
        raise ConfigError(f"a BPE has {_MIN_VOCABULARY} to {MAX_VOCABULARY:,} tokens, got bpe:{vocab_size}")


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _finished(backend: tokenizers.Tokenizer) -> Tokenizer:
    """With the end of text as its last token."""
    backend.add_special_tokens([END_OF_TEXT[0]])
    return Tokenizer(backend)


def _first_bytes(texts: Iterable[str]) -> Iterator[list[str]]:
    left = TRAINING_BYTES
    for text in texts:
        if left <= 0:
            return
        content = text.encode()
        text = text if len(content) <= left else content[:left].decode(errors="ignore")
        yield _PARTS.findall(text) if _LONG_WORD.search(text) else [text]
        left -= len(content)


def _spans(text: str, ends: Sequence[int]) -> np.ndarray:
    """Bytes of text from the end of each token to the end of the next. ends: in characters, of the text's tokens."""
    characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + sum((characters >= least).astype(np.uint32) for least in (0x80, 0x800, 0x10000))
    bytes_before = np.concatenate([[0], np.cumsum(widths)])
    bounds = bytes_before[np.maximum.accumulate(np.array(ends, dtype=np.int64))]
    bounds[-1:] = bytes_before[-1]
    return np.diff(bounds, prepend=0).astype(np.uint32)


class _Refusals:
    """Turns what `tokenizers` raises, which is a bare `Exception` and never a subclass, into one line of DataError."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is Exception:
            raise DataError(f"{self._problem}: {str(error).splitlines()[0]}") from None
