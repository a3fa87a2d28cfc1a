"""Transitive order: neighbours of a hidden order are told, and any two are asked about."""

# B batch, N elements of a sequence

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.queries import asked_after, in_turn
from deep_delta.data.synthetic.words import below, shuffled, strands


@dataclass(frozen=True)
class TransitiveOrder:
    """a b: a comes before b. The neighbours of a hidden order, shuffled; then pairs of any two, before or after?

    A length counts elements; there are one statement fewer, and as many questions. Each question "a b" is asked behind
    b, and its two elements come in either order with probability one half.
    """

    elements: int
    unit = "elements"
    chance = 0.5

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*(f"e{number}" for number in range(self.elements)), "before", "after")

    @property
    def longest(self) -> int:
        return self.elements

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 4 * lengths - 2

    def num_words(self, length: int) -> int:
        return self.elements + 4 * length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`."""
        most, count = int(lengths.max()), lengths[:, None]
        names_BN = np.argsort(words[:, : self.elements], axis=1)[:, :most]
        _, for_one, for_gap, for_turn = strands(words, self.elements, 4, most)
        told_BN = np.maximum(self.skeleton(words, lengths), 0)
        after_BN = np.minimum(told_BN + 1, most - 1)
        statements = in_turn(*(np.take_along_axis(names_BN, side, axis=1) for side in (told_BN, after_BN)))
        one_BN = below(for_one, count)
        gap_BN = 1 + below(for_gap, np.maximum(count - 1, 1))
        other_BN = (one_BN + gap_BN) % count
        low_BN, high_BN = np.minimum(one_BN, other_BN), np.maximum(one_BN, other_BN)
        turned_BN = below(for_turn, 2) == 1
        left_BN, right_BN = np.where(turned_BN, high_BN, low_BN), np.where(turned_BN, low_BN, high_BN)
        questions = in_turn(*(np.take_along_axis(names_BN, side, axis=1) for side in (left_BN, right_BN)))
        answers = in_turn(np.full_like(names_BN, IGNORED), self.elements + turned_BN)
        return asked_after(statements, 2 * (lengths - 1), questions, answers, 2 * lengths)

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """In which order the neighbours are told, [B, N − 1]; −1 beyond."""
        places = np.arange(max(1, int(lengths.max()) - 1))
        order_BN = shuffled(strands(words, self.elements, 4, len(places))[0], lengths - 1)
        return np.where(places < lengths[:, None] - 1, order_BN, -1)
