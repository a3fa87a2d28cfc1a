"""Recall where keys are written again, and where some keys are asked more often than others.

`Overwrite` is the delta rule's own test: a memory that only adds cannot answer it. `SkewedRecall` is multi-query recall
(Arora et al., 2023, arXiv 2312.04927) whose queries follow a power law.
"""

# B batch, N writes, K keys of a sequence, Q queries

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.words import below, strands

_LAST = np.uint64(2**64 - 1)


class _Memory:
    """Symbols of a memory: keys, then values."""

    keys: int
    values: int

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*(f"k{number}" for number in range(self.keys)), *(f"v{number}" for number in range(self.values)))

    @property
    def chance(self) -> float:
        return 1 / self.values


@dataclass(frozen=True)
class Overwrite(_Memory):
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
        names_BK, slots_BN, for_values, for_queries = self._plan(words, lengths)
        most, rows = int(lengths.max()), np.arange(len(words))[:, None]
        values_BN = self.keys + below(for_values, self.values)
        beyond_BN = np.arange(most) >= lengths[:, None]
        latest_BK = np.zeros((len(words), names_BK.shape[1]), dtype=np.int64)
        for place in range(most):
            inside = ~beyond_BN[:, place]
            latest_BK[rows[inside, 0], slots_BN[inside, place]] = values_BN[inside, place]
        count = self.num_keys(lengths)[:, None]
        order_BK = np.argsort(np.where(np.arange(names_BK.shape[1]) >= count, _LAST, for_queries), axis=1)

        width = int(self.num_tokens(lengths).max())
        writes = np.stack([np.take_along_axis(names_BK, slots_BN, axis=1), values_BN], axis=2).reshape(len(words), -1)
        query_BT = np.arange(width) - 2 * lengths[:, None]
        asked_BT = (query_BT >= 0) & (query_BT < count)
        slot_BT = np.take_along_axis(order_BK, np.clip(query_BT, 0, names_BK.shape[1] - 1), axis=1)
        padded = np.pad(writes, ((0, 0), (0, width - writes.shape[1])))
        ids_BT = np.where(asked_BT, np.take_along_axis(names_BK, slot_BT, axis=1), padded)
        return ids_BT, np.where(asked_BT, np.take_along_axis(latest_BK, slot_BT, axis=1), IGNORED)

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Which writes go to the same key."""
        slots_BN = self._plan(words, lengths)[1]
        return np.where(np.arange(slots_BN.shape[1]) < lengths[:, None], slots_BN, -1)

    def _plan(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Names of the keys [B, K], which key each write goes to [B, N]; words for values [B, N] and queries [B, K]."""
        most = int(lengths.max())
        count = self.num_keys(lengths)[:, None]
        names_BK = np.argsort(words[:, : self.keys], axis=1)[:, : int(count.max())]
        for_slots, for_order, for_values, for_queries = strands(words, self.keys, 4, most)
        place_N = np.arange(most)
        slots_BN = np.where(place_N < count, place_N, below(for_slots, count))
        order_BN = np.argsort(np.where(place_N >= lengths[:, None], _LAST, for_order), axis=1)
        slots_BN = np.take_along_axis(slots_BN, order_BN, axis=1)
        return names_BK, slots_BN, for_values, for_queries[:, : names_BK.shape[1]]


@dataclass(frozen=True)
class SkewedRecall(_Memory):
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
        pairs_BT = np.stack([keys_BN, values_BN], axis=2).reshape(len(words), 2 * most)
        query_BT = np.arange(3 * most) - 2 * lengths[:, None]
        asked_BT = (query_BT >= 0) & (query_BT < lengths[:, None])
        pair_BT = np.take_along_axis(self._asked(words, lengths), np.clip(query_BT, 0, most - 1), axis=1)
        ids_BT = np.where(asked_BT, np.take_along_axis(keys_BN, pair_BT, axis=1), np.pad(pairs_BT, ((0, 0), (0, most))))
        return ids_BT, np.where(asked_BT, np.take_along_axis(values_BN, pair_BT, axis=1), IGNORED)

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
