"""Multi-hop lookup: each key points to another; the key that is reached after some hops is asked for."""

# B batch, N keys of a sequence, T time

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.words import below, strands

_LAST = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class MultiHop:
    """a b, c a, b c, …: a points to b; then every key, and behind each the key `hops` further on is asked for.

    The pointers are a random permutation of the keys of the sequence. A length counts pointers.
    """

    keys: int
    hops: int
    unit = "pointers"

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(f"k{number}" for number in range(self.keys))

    @property
    def chance(self) -> float:
        return 1 / self.keys

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
        keys_BN, next_BN = np.argsort(words[:, : self.keys], axis=1)[:, :most], self._next(words, lengths)
        reached_BN = np.broadcast_to(np.arange(most), next_BN.shape)
        for _ in range(self.hops):
            reached_BN = np.take_along_axis(next_BN, reached_BN, axis=1)
        pairs = np.stack([keys_BN, np.take_along_axis(keys_BN, next_BN, axis=1)], axis=2).reshape(len(words), -1)
        for_order = strands(words, self.keys, 2, most)[1]
        order_BN = np.argsort(np.where(np.arange(most) >= lengths[:, None], _LAST, for_order), axis=1)
        query_BT = np.arange(3 * most) - 2 * lengths[:, None]
        asked_BT = (query_BT >= 0) & (query_BT < lengths[:, None])
        key_BT = np.take_along_axis(order_BN, np.clip(query_BT, 0, most - 1), axis=1)
        ids_BT = np.where(asked_BT, np.take_along_axis(keys_BN, key_BT, axis=1), np.pad(pairs, ((0, 0), (0, most))))
        answer_BT = np.take_along_axis(keys_BN, np.take_along_axis(reached_BN, key_BT, axis=1), axis=1)
        return ids_BT, np.where(asked_BT, answer_BT, IGNORED)

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where each key points, by its place."""
        next_BN = self._next(words, lengths)
        return np.where(np.arange(next_BN.shape[1]) < lengths[:, None], next_BN, -1)

    def _next(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where each key points, by its place [B, N]; keys beyond the length point to themselves."""
        most = int(lengths.max())
        beyond_BN = np.arange(most) >= lengths[:, None]
        keyed = np.where(beyond_BN, _LAST, strands(words, self.keys, 2, most)[0])
        return np.where(beyond_BN, np.arange(most), np.argsort(keyed, axis=1, kind="stable"))


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
        told_BN = self.skeleton(words, lengths)
        told_BN = np.clip(told_BN, 0, max(0, most - 2))
        statements = np.stack(
            [np.take_along_axis(names_BN, told_BN, axis=1), np.take_along_axis(names_BN, told_BN + (most > 1), axis=1)],
            2,
        ).reshape(len(words), -1)
        one_BN = below(for_one, count)
        gap_BN = 1 + below(for_gap, np.maximum(count - 1, 1))
        other_BN = (one_BN + gap_BN) % count
        low_BN, high_BN = np.minimum(one_BN, other_BN), np.maximum(one_BN, other_BN)
        turned_BN = below(for_turn, 2) == 1
        left_BN, right_BN = np.where(turned_BN, high_BN, low_BN), np.where(turned_BN, low_BN, high_BN)
        questions = np.stack(
            [np.take_along_axis(names_BN, np.clip(side, 0, most - 1), axis=1) for side in (left_BN, right_BN)], 2
        )
        questions = questions.reshape(len(words), -1)

        width = 4 * most - 2
        place_BT = np.arange(width) - 2 * (count - 1)
        asking_BT = (place_BT >= 0) & (place_BT < 2 * count)
        where_BT = np.clip(place_BT, 0, 2 * most - 1)
        padded = np.pad(statements, ((0, 0), (0, max(0, width - statements.shape[1]))))[:, :width]
        ids_BT = np.where(asking_BT, np.take_along_axis(questions, where_BT, axis=1), padded)
        answers_BN = self.elements + turned_BN
        answer_BT = np.take_along_axis(answers_BN, where_BT // 2, axis=1)
        return ids_BT, np.where(asking_BT & (place_BT % 2 == 1), answer_BT, IGNORED)

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """In which order the neighbours are told, [B, N − 1]; −1 beyond."""
        most = int(lengths.max())
        place = np.arange(max(1, most - 1))
        beyond = place >= lengths[:, None] - 1
        for_order = strands(words, self.elements, 4, len(place))[0]
        return np.where(beyond, -1, np.argsort(np.where(beyond, _LAST, for_order), axis=1, kind="stable"))
