"""Windows of tokens as batches. Which tokens a batch holds follows from (seed, index) alone: no state to save.

Legend: N tokens, B batch, T sequence length. A window is T tokens and, one further on, their T targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import Batch, Batches
from deep_delta.data.permutation import Permutation
from deep_delta.errors import DataError


class Loader(Batches):
    """Training batches without end; every epoch visits each of its windows once, in an order of its own.

    An epoch lays windows end to end from a random phase. It has `windows` = (N - 1) // T - 1 of them (one at least), so
    that the phase can slide by a whole window: over the epochs every token is seen, at every position of a window.
    """

    def __init__(self, tokens: np.ndarray, *, batch_size: int, seq_len: int, seed: int) -> None:
        """tokens: ids, one axis. DataError when there are fewer than seq_len + 1."""
        _require_length(tokens, seq_len, "the training text")
        self._tokens = tokens
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.seed = seed
        self.windows = max(1, (len(tokens) - 1) // seq_len - 1)

    def batch(self, index: int) -> Batch:
        """Batch number `index`, from 0: a pure function of the tokens, the sizes, the seed and the index."""
        draws = range(index * self.batch_size, (index + 1) * self.batch_size)
        return _windows(self._tokens, [self._start(draw) for draw in draws], self.seq_len)

    def _start(self, draw: int) -> int:
        """Where the window of the draw-th sequence of all begins."""
        epoch, number = divmod(draw, self.windows)
        key = hashlib.blake2b(f"{self.seed}/{epoch}".encode()).digest()
        slack = len(self._tokens) - 1 - self.windows * self.seq_len
        phase = int.from_bytes(key[:16], "big") % (slack + 1)
        return phase + self.seq_len * Permutation(self.windows, key[16:])(number)


@dataclass(frozen=True)
class ValidationBatches(Sequence[Batch]):
    """The same batches at every evaluation; read from disk as they are asked for. The last one may be smaller."""

    tokens: np.ndarray
    starts: np.ndarray  # int64 [windows], increasing
    batch_size: int
    seq_len: int

    def __len__(self) -> int:
        return -(-len(self.starts) // self.batch_size)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        chosen = self.starts[index * self.batch_size : (index + 1) * self.batch_size]
        return _windows(self.tokens, chosen.tolist(), self.seq_len)


def validation_batches(
    tokens: np.ndarray, *, batch_size: int, seq_len: int, limit: int | None = None
) -> ValidationBatches:
    """At most `limit` batches of windows that do not overlap, spread evenly over the text; all of them when None.

    DataError when there are fewer than seq_len + 1 tokens.
    """
    _require_length(tokens, seq_len, "the validation text")
    windows = (len(tokens) - 1) // seq_len
    wanted = windows if limit is None else min(windows, limit * batch_size)
    return ValidationBatches(tokens, np.arange(wanted) * windows // wanted * seq_len, batch_size, seq_len)


def _windows(tokens: np.ndarray, starts: Sequence[int], seq_len: int) -> Batch:
    rows = np.stack([tokens[start : start + seq_len + 1] for start in starts]).astype(np.int64)
    return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])


def _require_length(tokens: np.ndarray, seq_len: int, what: str) -> None:
    if len(tokens) < seq_len + 1:
        raise DataError(
            f"{what} has {len(tokens)} tokens and seq_len {seq_len} needs {seq_len + 1}; "
            "give more text or a shorter seq_len"
        )
