"""Multi-hop lookup: each key points to another; the key that is reached after some hops is asked for."""

# B batch, N keys of a sequence, T time

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.synthetic.queries import asked_after, in_turn
from deep_delta.data.synthetic.words import shuffled, strands


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
        order_BN = shuffled(strands(words, self.keys, 2, most)[1], lengths)
        questions = np.take_along_axis(keys_BN, order_BN, axis=1)
        answers = np.take_along_axis(keys_BN, np.take_along_axis(reached_BN, order_BN, axis=1), axis=1)
        pointers = in_turn(keys_BN, np.take_along_axis(keys_BN, next_BN, axis=1))
        return asked_after(pointers, 2 * lengths, questions, answers, lengths)

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where each key points, by its place."""
        next_BN = self._next(words, lengths)
        return np.where(np.arange(next_BN.shape[1]) < lengths[:, None], next_BN, -1)

    def _next(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Where each key points, by its place [B, N]; keys beyond the length point to themselves."""
        next_BN = shuffled(strands(words, self.keys, 2, int(lengths.max()))[0], lengths)
        places = np.arange(next_BN.shape[1])
        return np.where(places < lengths[:, None], next_BN, places)
