"""A task as training data: batches of its examples by index, and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import Batch, Batches, HeldOut
from deep_delta.data.synthetic.task import Lengths, Task, TaskSplit
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import ConfigError
from deep_delta.runs.manifest import DataIdentity

HELD_OUT_SEED = 0
"""Of validation and test examples, whatever the seed of the training."""


@dataclass(frozen=True)
class TaskBatches(Batches):
    """Batch i has the examples i·batch_size … (i + 1)·batch_size − 1, whatever the batch size."""

    task: Task
    split: TaskSplit
    seed: int
    lengths: Lengths
    batch_size: int

    def batch(self, index: int) -> Batch:
        """See `Batches`; T is that of its longest sequence."""
        numbers = np.arange(index * self.batch_size, (index + 1) * self.batch_size)
        return self.task.examples(self.split, self.seed, numbers, self.lengths)


@dataclass(frozen=True)
class First(Sequence[Batch]):
    """The first `size` batches, made as they are asked for."""

    batches: Batches
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self.batches.batch(index)


@dataclass(frozen=True)
class TaskData:
    """A task as `batches.TrainingData`. `seq_len` caps the training lengths; test lengths are as the task says."""

    task: Task

    @property
    def tokenizer(self) -> Tokenizer:
        return self.task.tokenizer

    @property
    def identity(self) -> DataIdentity:
        """Of the task with all its options; its examples follow from them."""
        return DataIdentity(
            name=self.task.spec,
            sha256=self.task.sha256,
            tokenizer=self.tokenizer.name,
            tokenizer_sha256=self.tokenizer.sha256,
        )

    def context(self, seq_len: int) -> int:
        """The longer of `seq_len` and the tokens of the longest test sequence."""
        return max(seq_len, self.task.num_tokens(self.task.test.last))

    def training_batches(self, *, batch_size: int, seq_len: int, seed: int) -> Batches:
        """See `TrainingData`. ConfigError when `seq_len` is shorter than the shortest training sequence."""
        return TaskBatches(self.task, "train", seed, self.training_lengths(seq_len), batch_size)

    def held_out(self, *, batch_size: int, seq_len: int, seed: int, limit: int) -> HeldOut:
        """See `TrainingData`: `limit` batches over the training lengths, and as many at each of the test lengths."""
        lengths = self.training_lengths(seq_len)
        longest = Lengths(lengths.last, lengths.last)
        validation, probe = (
            TaskBatches(self.task, "validation", HELD_OUT_SEED, chosen, batch_size) for chosen in (lengths, longest)
        )
        marks = self.task.test.marks()
        return HeldOut(
            batches=First(validation, limit),
            probe=probe.batch(0)[0],
            num_bytes=None,
            lengths=str(lengths),
            by_length={length: First(self.test_batches(length, batch_size), limit) for length in marks},
        )

    def test_batches(self, length: int, batch_size: int, seed: int = HELD_OUT_SEED) -> Batches:
        """Batches of test examples, all of one length."""
        return TaskBatches(self.task, "test", seed, Lengths(length, length), batch_size)

    def training_lengths(self, seq_len: int) -> Lengths:
        """Those of the task whose sequences have at most `seq_len` tokens. ConfigError when none has."""
        first, last = self.task.train.first, self.task.train.last
        sizes = self.task.rule.num_tokens(np.arange(first, last + 1))
        if sizes[0] > seq_len:
            raise ConfigError(
                f"seq_len {seq_len} is shorter than the shortest training sequence of {self.task.spec}, "
                f"which has {sizes[0]} tokens; leave train.seq_len out and it follows the task"
            )
        return Lengths(first, first + int((sizes <= seq_len).sum()) - 1)
