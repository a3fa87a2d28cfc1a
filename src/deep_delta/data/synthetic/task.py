"""A task: a rule, the lengths that it is trained at, longer ones that it is tested at, and its examples by number."""

# B batch, T time, W words

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from deep_delta.data.batches import IGNORED, Batch
from deep_delta.data.synthetic.rule import Rule
from deep_delta.data.synthetic.words import below, random_words
from deep_delta.data.tokenizer import Tokenizer, symbol_tokenizer

TaskSplit = Literal["train", "validation", "test"]
"""Which examples: no two splits, and no two seeds, share their random words."""

_FORMAT = "1"  # change it when the same task, split, seed and number give another example
_TOKENS_AT_ONCE = 1 << 14
_HELD_OUT = np.uint64(4)  # one structure in so many is for validation and test
_TRIES = 64
_MULTIPLIER = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)


@dataclass(frozen=True)
class Lengths:
    """first … last, all equally likely. What they count is the rule's `unit`."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def marks(self) -> Iterator[int]:
        """The lengths that stand for all: the first, the last and the powers of two between."""
        yield self.first
        for exponent in range(self.first.bit_length(), (self.last - 1).bit_length()):
            yield 2**exponent
        if self.last > self.first:
            yield self.last


@dataclass(frozen=True, eq=False)
class Task:
    """What `synth:TASK` means. spec: with every option spelt out, so that equal specs are equal tasks."""

    spec: str
    rule: Rule
    train: Lengths
    test: Lengths

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """A word for each symbol; then the end of text, and the padding behind the shorter sequences of a batch."""
        return symbol_tokenizer(self.rule.symbols)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{_FORMAT}/{self.spec}/{' '.join(self.rule.symbols)}".encode()).hexdigest()

    @property
    def longest_training(self) -> Lengths:
        """The longest training length alone."""
        return Lengths(self.train.last, self.train.last)

    def num_tokens(self, length: int) -> int:
        """Tokens of a sequence of this length."""
        return int(self.rule.num_tokens(np.array([length]))[0])

    def batches(self, split: TaskSplit, seed: int, num_examples: int, lengths: Lengths) -> Iterator[Batch]:
        """The first examples of a split, in batches of bounded size."""
        size = max(1, _TOKENS_AT_ONCE // self.num_tokens(lengths.last))
        for start in range(0, num_examples, size):
            yield self.examples(split, seed, np.arange(start, min(start + size, num_examples)), lengths)

    def examples(self, split: TaskSplit, seed: int, numbers: np.ndarray, lengths: Lengths) -> Batch:
        """Examples by number (int64 [B]): ids and targets [B, T], padded to the longest of them.

        Each is a function of (task, split, seed, number, lengths) alone, whichever others are asked for with it. Where
        `lengths` has several, the first word of an example decides its own.
        """
        words_BW = random_words(f"{split}/{seed}", numbers, 1 + self.rule.num_words(lengths.last))
        lengths_B = lengths.first + below(words_BW[:, 0], lengths.last - lengths.first + 1)
        words_BW = self._of_split(split, seed, numbers, words_BW[:, 1:], lengths_B)
        ids_BT, targets_BT = self.rule.make(words_BW, lengths_B)
        is_padding_BT = np.arange(ids_BT.shape[1]) >= self.rule.num_tokens(lengths_B)[:, None]
        padding = self.tokenizer.vocab_size - 1
        return np.where(is_padding_BT, padding, ids_BT), np.where(is_padding_BT, IGNORED, targets_BT)

    def _of_split(
        self, split: TaskSplit, seed: int, numbers: np.ndarray, words: np.ndarray, lengths: np.ndarray
    ) -> np.ndarray:
        """The words, drawn again where the structure that comes of them belongs to another split. A rule without
        structures keeps them; so does a sequence so short that no try of `_TRIES` finds a structure of its split."""
        skeleton = getattr(self.rule, "skeleton", None)
        if skeleton is None:
            return words
        words, wrong = words.copy(), np.arange(len(words))
        for attempt in range(1, _TRIES):
            held_out = _hashed(skeleton(words[wrong], lengths[wrong])) % _HELD_OUT == 0
            wrong = wrong[held_out == (split == "train")]
            if not len(wrong):
                break
            words[wrong] = random_words(f"{split}/{seed}/again-{attempt}", numbers[wrong], words.shape[1])
        return words

    def samples(self, num_tokens: int) -> Iterator[tuple[str, str]]:
        """Training examples of seed 0 as text, as long as they have at most so many tokens together.

        Each is its symbols and below them, in columns, what is asked for after each: "·" where nothing is.
        """
        names, number = self.rule.symbols, 0
        while True:
            ids, targets = (rows[0].tolist() for rows in self.examples("train", 0, np.array([number]), self.train))
            num_tokens -= len(ids)
            if num_tokens < 0:
                return
            answers = ["·" if target == IGNORED else names[target] for target in targets]
            widths = [max(len(names[index]), len(answer)) for index, answer in zip(ids, answers, strict=True)]
            yield (
                " ".join(names[index].ljust(width) for index, width in zip(ids, widths, strict=True)),
                " ".join(answer.ljust(width) for answer, width in zip(answers, widths, strict=True)),
            )
            number += 1


def _hashed(rows: np.ndarray) -> np.ndarray:
    """A number for each row of whole numbers, uint64 [B]; −1 at its end changes nothing."""
    found = np.zeros(len(rows), dtype=np.uint64)
    for column in range(rows.shape[1]):
        mixed = (found ^ (rows[:, column].astype(np.uint64) + np.uint64(2))) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
        found = np.where(rows[:, column] >= 0, mixed, found)
    return found ^ (found >> np.uint64(32))
