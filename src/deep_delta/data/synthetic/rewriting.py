"""Recall where keys are written again, and where some keys are asked more often than others.

`Overwrite` is the delta rule's own test: a memory that only adds cannot answer it. `SkewedRecall` is multi-query recall
(Arora et al., 2023, arXiv 2312.04927) whose queries follow a power law.
"""

# B batch, N writes, K keys of a sequence, Q queries

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.synthetic.queries import Memory, asked_after, in_turn
from deep_delta.data.synthetic.words import below, shuffled, strands


@dataclass(frozen=True)
class Overwrite(Memory):
    """k v k v …, in which keys come again with other values; then each key once, whose latest value is asked for.

    rewrites: writes for each key, in the mean. A length counts writes; N of them are to ⌈N / rewrites⌉ different keys.
    """

    keys: int
    values: int
    rewrites: int
    unit = "writes"

    @property
    def longest(self) -> int:
        return self.keys * self.rewrites

    def num_keys(self, lengths: np.ndarray) -> np.ndarray:
        """Different keys of sequences of these lengths."""
        return -(-lengths // self.rewrites)

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 2 * lengths + self.num_keys(lengths)

    def num_words(self, length: int) -> int:
        return self.keys + 4 * length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`. Each key is written once, the other writes go to keys drawn evenly, and all are shuffled."""
        names_BK, slots_BN, for_values, for_questions = self._plan(words, lengths)
        values_BN = self.keys + below(for_values, self.values)
        latest_BK, rows = np.zeros_like(names_BK), np.arange(len(words))
        for place in range(values_BN.shape[1]):
            inside = rows[place < lengths]
            latest_BK[inside, slots_BN[inside, place]] = values_BN[inside, place]
        count = self.num_keys(lengths)
        order_BK = shuffled(for_questions, count)
        questions, answers = (np.take_along_axis(column, order_BK, axis=1) for column in (names_BK, latest_BK))
        writes = in_turn(np.take_along_axis(names_BK, slots_BN, axis=1), values_BN)
        return asked_after(writes, 2 * lengths, questions, answers, count)

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Which writes go to the same key."""
        slots_BN = self._plan(words, lengths)[1]
        return np.where(np.arange(slots_BN.shape[1]) < lengths[:, None], slots_BN, -1)

    def _plan(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Names of the keys [B, K], which key each write goes to [B, N]; words for values [B, N], questions [B, K]."""
        most = int(lengths.max())
        count = self.num_keys(lengths)[:, None]
        names_BK = np.argsort(words[:, : self.keys], axis=1)[:, : int(count.max())]
        for_slots, for_order, for_values, for_questions = strands(words, self.keys, 4, most)
        place_N = np.arange(most)
        slots_BN = np.where(place_N < count, place_N, below(for_slots, count))
        slots_BN = np.take_along_axis(slots_BN, shuffled(for_order, lengths), axis=1)
        return names_BK, slots_BN, for_values, for_questions[:, : names_BK.shape[1]]


@dataclass(frozen=True)
class SkewedRecall(Memory):
    """k₁ v₁ … k_n v_n, then n queries: the pair that stands r-th from the end is asked with a probability ∝ 1/r.

    A length counts pairs, and there are as many queries.
    """

    keys: int
    values: int
    unit = "pairs"

    @property
    def longest(self) -> int:
        return self.keys

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 3 * lengths

    def num_words(self, length: int) -> int:
        return self.keys + 2 * length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`."""
        most = int(lengths.max())
        keys_BN = np.argsort(words[:, : self.keys], axis=1)[:, :most]
        values_BN = self.keys + below(strands(words, self.keys, 2, most)[0], self.values)
        asked_BN = self._asked(words, lengths)
        questions, answers = (np.take_along_axis(column, asked_BN, axis=1) for column in (keys_BN, values_BN))
        return asked_after(in_turn(keys_BN, values_BN), 2 * lengths, questions, answers, lengths)

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Which pairs are asked for, in order."""
        asked_BN = self._asked(words, lengths)
        return np.where(np.arange(asked_BN.shape[1]) < lengths[:, None], asked_BN, -1)

    def _asked(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Which pair each query asks for, [B, N]."""
        most = int(lengths.max())
        weights = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, most + 1))))
        share_BN = (strands(words, self.keys, 2, most)[1] >> np.uint64(11)) / 2.0**53
        rank_BN = np.searchsorted(weights, share_BN * weights[lengths][:, None], side="right")
        return np.clip(lengths[:, None] - rank_BN, 0, None)
