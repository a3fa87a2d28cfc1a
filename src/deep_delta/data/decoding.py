"""Token ids to text one at a time, in whole characters: what `ddl generate` prints as it comes."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

import tokenizers

UNREADABLE = "\ufffd"


class StreamDecoder(Protocol):
    """`push` gives the text that an id completes, maybe none; `flush` what is left, with U+FFFD for half characters."""

    def push(self, token: int, /) -> str: ...

    def flush(self) -> str: ...


class ByteStream:
    """For byte-level tokenizers: exact, and constant work for each token."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int, /) -> str:
        if not 0 <= token < len(self._pieces):
            return self.flush() + UNREADABLE
        return self._decoder.decode(self._pieces[token])

    def flush(self) -> str:
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class PieceStream:
    """For every other tokenizer.json: a token's text may depend on those before it, so a window of them is decoded.

    The window starts anew at each text that ends in a whole character, and keeps what came just before as context.
    """

    def __init__(self, backend: tokenizers.Tokenizer, vocab_size: int) -> None:
        self._backend = backend
        self._vocab_size = vocab_size
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int, /) -> str:
        if not 0 <= token < self._vocab_size:
            return self.flush() + UNREADABLE
        self._pending.append(token)
        text = self._text()
        return "" if text.endswith(UNREADABLE) else self._take(text)

    def flush(self) -> str:
        return self._take(self._text())

    def _text(self) -> str:
        """What the pending tokens add to the context. Bytes that are no text must not take the context's with them."""
        before, text = self._decode(self._context), self._decode(self._context + self._pending)
        return text[len(before) :] if text.startswith(before) else self._decode(self._pending)

    def _decode(self, tokens: list[int]) -> str:
        return self._backend.decode(tokens, skip_special_tokens=True)

    def _take(self, text: str) -> str:
        if text:
            self._context, self._pending = self._pending, []
        return text
