"""Windows of tokens as batches. Which tokens a batch holds follows from (seed, index) alone: no state to save.

Legend: N tokens, B batch, T sequence length. A window is T tokens and, one further on, their T targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED, Batch, Batches
from deep_delta.data.permutation import Permutation
from deep_delta.errors import DataError

BEGINNING_EVERY = 32


class Loader(Batches):
    """Training batches without end; every epoch visits each of its windows once, in an order of its own.

    An epoch lays windows end to end from a random phase. It has `windows` = (N - 1) // T - 1 of them (one at least), so
    that the phase can slide by a whole window: over the epochs every token is seen, at every position of a window.

    With `beginnings`, one sequence in `BEGINNING_EVERY` is not one of the epoch's windows but begins where a document
    does: a book has one beginning, which the windows alone would hardly ever meet.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        batch_size: int,
        seq_len: int,
        seed: int,
        beginnings: np.ndarray | None = None,
    ) -> None:
        """tokens: ids, one axis. beginnings: where documents begin in them. DataError for fewer than seq_len + 1."""
        _require_length(tokens, seq_len, "the training text")
        self._tokens = tokens
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.seed = seed
        self.windows = max(1, (len(tokens) - 1) // seq_len - 1)
        self._beginnings = (
            np.empty(0, np.int64) if beginnings is None else beginnings[beginnings < len(tokens) - seq_len]
        )

    def batch(self, index: int) -> Batch:
        """Batch number `index`, from 0: a pure function of the tokens, the sizes, the seed and the index."""
        draws = range(index * self.batch_size, (index + 1) * self.batch_size)
        return _windows(self._tokens, [self._start(draw) for draw in draws], self.seq_len)

    def _start(self, draw: int) -> int:
        """Where the window of the draw-th sequence of all begins."""
        if len(self._beginnings):
            turn, place = divmod(draw, BEGINNING_EVERY)
            if place == 0:
                key = hashlib.blake2b(f"{self.seed}/beginning/{turn}".encode(), digest_size=16).digest()
                return int(self._beginnings[int.from_bytes(key, "big") % len(self._beginnings)])
            draw -= turn + 1
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
    end_of_text: int

    def __len__(self) -> int:
        return -(-len(self.starts) // self.batch_size)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        ids, targets = _windows(self.tokens, self._chosen(index).tolist(), self.seq_len, self.end_of_text)
        return ids, np.where(targets == self.end_of_text, IGNORED, targets)

    def num_bytes(self, token_bytes: np.ndarray) -> list[int]:
        """Bytes of text that the targets of each batch stand for, by those of each of `tokens`."""
        windows = [[token_bytes[one + 1 : one + self.seq_len + 1] for one in self._chosen(i)] for i in range(len(self))]
        return [sum(int(window.sum()) for window in batch) for batch in windows]

    @property
    def probe(self) -> np.ndarray:
        """Ids of the first windows that the text fills, as many as a batch has."""
        chosen = self._chosen(0)
        return _windows(self.tokens, chosen[chosen + self.seq_len < len(self.tokens)].tolist(), self.seq_len)[0]

    def _chosen(self, index: int) -> np.ndarray:
        return self.starts[index * self.batch_size : (index + 1) * self.batch_size]


def validation_batches(
    tokens: np.ndarray, *, batch_size: int, seq_len: int, end_of_text: int, limit: int | None = None
) -> ValidationBatches:
    """At most `limit` batches of windows that do not overlap, spread evenly over the text; all of them when None.

    All of them make every token of the text a target once, as `evaluation.compare` does: what the text leaves of the
    last window is filled up, and an end of text is never a target. DataError when there are fewer than seq_len + 1
    tokens.
    """
    _require_length(tokens, seq_len, "the validation text")
    windows = -(-(len(tokens) - 1) // seq_len)
    wanted = windows if limit is None else min(windows, limit * batch_size)
    starts = np.arange(wanted) * windows // wanted * seq_len
    return ValidationBatches(tokens, starts, batch_size, seq_len, end_of_text)


def _windows(tokens: np.ndarray, starts: Sequence[int], seq_len: int, filling: int = 0) -> Batch:
    rows = np.full((len(starts), seq_len + 1), filling, dtype=np.int64)
    for row, start in zip(rows, starts, strict=True):
        window = tokens[start : start + seq_len + 1]
        row[: len(window)] = window
    return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])


def _require_length(tokens: np.ndarray, seq_len: int, what: str) -> None:
    if len(tokens) < seq_len + 1:
        raise DataError(
            f"{what} has {len(tokens)} tokens and seq_len {seq_len} needs {seq_len + 1}; "
            "give more text or a shorter seq_len"
        )
