"""What every task has: its symbols, and how its sequences and their answers are made."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Structured(Protocol):
    """A rule whose sequences have a structure apart from their words. Structures of training are never those of
    validation and test, where there are enough of them."""

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Whole numbers, int64 [B, any], that are equal for sequences of `make` that differ in their words only; what
        stands behind the last of a sequence is −1."""
        ...


class Rule(Protocol):
    """Makes sequences of given lengths from random words. What a length counts is the rule's own (`unit`).

    A symbol's id is its place in `symbols`. `chance` is the share of answers that a guess gets right.
    """

    @property
    def symbols(self) -> tuple[str, ...]: ...

    @property
    def chance(self) -> float: ...

    @property
    def unit(self) -> str:
        """What a length counts: tokens, pairs, …"""
        ...

    @property
    def longest(self) -> int | None:
        """The largest length that there is; None where nothing bounds it."""
        ...

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        """Tokens of sequences of these lengths; grows with the length."""
        ...

    def num_words(self, length: int) -> int:
        """Random words that a sequence of at most this length needs."""
        ...

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ids and targets [B, T], int64, from words [B, num_words(longest)] and lengths [B].

        T is the longest one's number of tokens; what stands behind the last token of a sequence is anything. A target
        is the answer that is asked for once its id has been read, or `IGNORED`.
        """
        ...
