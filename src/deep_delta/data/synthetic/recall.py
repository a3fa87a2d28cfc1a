"""Multi-query associative recall (MQAR; Arora et al., 2023, arXiv 2312.04927): k₁ v₁ … k_n v_n, then every key again.

The keys are all different; the queries are the same keys in an order of their own, and at each of them its value is
asked for. A length counts pairs.
"""

# B batch, N pairs, T time

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.words import below


@dataclass(frozen=True)
class Recall:
    """keys, values: how many different ones there are."""

    keys: int
    values: int
    unit = "pairs"

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*(f"k{number}" for number in range(self.keys)), *(f"v{number}" for number in range(self.values)))

    @property
    def chance(self) -> float:
        return 1 / self.values

    @property
    def longest(self) -> int:
        return self.keys

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 3 * lengths

    def num_words(self, length: int) -> int:
        return self.keys + 2 * length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`. A word for every key there is, and those of the smallest are chosen; then two for each pair."""
        most = int(lengths.max())
        keys_BN = np.argsort(words[:, : self.keys], axis=1)[:, :most]
        for_pairs = words[:, self.keys : self.keys + 2 * most]
        values_BN = self.keys + below(for_pairs[:, 0::2], self.values)
        beyond_BN = np.arange(most) >= lengths[:, None]
        order_BN = np.argsort(np.where(beyond_BN, np.uint64(2**64 - 1), for_pairs[:, 1::2]), axis=1)

        pairs_BT = np.stack([keys_BN, values_BN], axis=2).reshape(len(words), 2 * most)
        query_BT = np.arange(3 * most) - 2 * lengths[:, None]  # which query a position is; negative inside the pairs
        asked_BT = (query_BT >= 0) & (query_BT < lengths[:, None])
        pair_BT = np.take_along_axis(order_BN, np.clip(query_BT, 0, most - 1), axis=1)
        ids_BT = np.where(asked_BT, np.take_along_axis(keys_BN, pair_BT, axis=1), np.pad(pairs_BT, ((0, 0), (0, most))))
        return ids_BT, np.where(asked_BT, np.take_along_axis(values_BN, pair_BT, axis=1), IGNORED)
