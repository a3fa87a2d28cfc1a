"""Multi-query associative recall (MQAR; Arora et al., 2023, arXiv 2312.04927): k₁ v₁ … k_n v_n, then every key again.

The keys are all different; the queries are the same keys in an order of their own, and at each of them its value is
asked for. A length counts pairs.
"""

# B batch, N pairs, T time

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.synthetic.queries import Memory, asked_after, in_turn
from deep_delta.data.synthetic.words import below, shuffled, strands


@dataclass(frozen=True)
class Recall(Memory):
    """keys, values: how many different ones there are."""

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
        """See `Rule`. A word for every key there is, and those of the smallest are chosen; then two for each pair."""
        most = int(lengths.max())
        keys_BN = np.argsort(words[:, : self.keys], axis=1)[:, :most]
        for_values, for_order = strands(words, self.keys, 2, most)
        values_BN, order_BN = self.keys + below(for_values, self.values), shuffled(for_order, lengths)
        questions, answers = (np.take_along_axis(column, order_BN, axis=1) for column in (keys_BN, values_BN))
        return asked_after(in_turn(keys_BN, values_BN), 2 * lengths, questions, answers, lengths)
