"""What training needs of its data: batches by index, what is held out, a tokenizer and an identity.

Text (`tokens.Dataset`) and synthetic tasks (`synthetic.task_data.TaskData`) are the two kinds; training and its
checkpoints know this page alone. Legend: B batch, T sequence length.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from deep_delta.data.tokenizer import Tokenizer
from deep_delta.runs.manifest import DataIdentity

IGNORED = -100
"""A target that is not asked for: no loss and no score."""

Batch = tuple[np.ndarray, np.ndarray]  # ids and targets, int64 [B, T]


class Batches(ABC):
    """Training batches without end, each a function of its index alone: no state to save."""

    @abstractmethod
    def batch(self, index: int) -> Batch:
        """Batch number `index`, from 0; the same each time."""

    def prefetch(self, start: int = 0, workers: int = 0) -> Iterator[Batch]:
        """Batches `start`, `start + 1`, … without end, the same whatever the number of threads that prepare them."""
        if workers == 0:
            while True:
                yield self.batch(start)
                start += 1
        with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
            ahead: deque[Future[Batch]] = deque()
            try:
                while True:
                    while len(ahead) < 2 * workers:
                        ahead.append(pool.submit(self.batch, start + len(ahead)))
                    batch = ahead.popleft().result()
                    start += 1
                    yield batch
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class HeldOut:
    """What a training is evaluated on, the same at every evaluation and for every seed."""

    batches: Sequence[Batch]
    """sequences as in training; none where nothing could be held out"""
    probe: np.ndarray
    """ids [B, T] of sequences of one length, for spectral snapshots"""
    num_bytes: Sequence[int] | None
    """bytes of held-out text that the targets of each batch stand for; None for a task, whose targets are answers"""
    lengths: str = ""
    """of a task: which lengths the sequences of `batches` have"""
    by_length: Mapping[int, Sequence[Batch]] = field(default_factory=dict)
    """batches of a task at its test lengths, shortest first; empty for text"""


class TrainingData(Protocol):
    """Data that a model can be trained on and compared by."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def identity(self) -> DataIdentity:
        """What decides whether two losses can be compared."""
        ...

    def context(self, seq_len: int) -> int:
        """Tokens that a model must hold to be trained with `seq_len` and evaluated on what is held out."""
        ...

    def training_batches(self, *, batch_size: int, seq_len: int, seed: int) -> Batches:
        """Batches [batch_size, T ≤ seq_len], a function of (data, seed, index). DataError or ConfigError when there is
        no sequence of at most `seq_len` tokens to train on.
        """
        ...

    def held_out(self, *, batch_size: int, seq_len: int, seed: int, limit: int) -> HeldOut:
        """At most `limit` batches of each kind. Only a probe that must come from the training data depends on `seed`.

        DataError or ConfigError as in `training_batches`.
        """
        ...
