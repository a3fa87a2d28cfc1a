"""Nested brackets: which one may close next?"""

# B batch, T time, K kinds of brackets

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.synthetic.words import below, strands

_OPENING, _CLOSING = "([{<abcd", ")]}>ABCD"
MOST_KINDS = len(_OPENING)


@dataclass(frozen=True)
class Dyck:
    """Brackets of some kinds, nested at most `depth` deep; after each the one that may close next is asked for, or "."
    where none is open  (Dyck-k; Hewitt et al., 2020, arXiv 2010.07515, have bounded depth).

    At each place a bracket opens or closes evenly, as far as the depth allows. A length counts brackets.
    """

    kinds: int
    depth: int
    unit = "brackets"
    longest = None

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*_OPENING[: self.kinds], *_CLOSING[: self.kinds], ".")

    @property
    def chance(self) -> float:
        return 1 / (self.kinds + 1)

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return lengths

    def num_words(self, length: int) -> int:
        return 2 * length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`."""
        opens_BT, most, rows = self.skeleton(words, lengths) == 1, int(lengths.max()), np.arange(len(words))
        kinds_BT = below(strands(words, 0, 2, most)[1], self.kinds)
        stack, depth = np.zeros((len(words), self.depth + 1), np.int64), np.zeros(len(words), np.int64)
        ids_BT, targets_BT = np.empty((2, len(words), most), np.int64)
        for place in range(most):
            opens = opens_BT[:, place]
            top = stack[rows, np.maximum(depth - 1, 0)]
            ids_BT[:, place] = np.where(opens, kinds_BT[:, place], self.kinds + top)
            stack[rows[opens], depth[opens]] = kinds_BT[opens, place]
            depth = depth + np.where(opens, 1, -1)
            top = stack[rows, np.maximum(depth - 1, 0)]
            targets_BT[:, place] = np.where(depth > 0, self.kinds + top, 2 * self.kinds)
        return ids_BT, targets_BT

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """1 where a bracket opens, 0 where one closes, −1 beyond the length; [B, T]."""
        most = int(lengths.max())
        wants_BT, depth = below(strands(words, 0, 2, most)[0], 2), np.zeros(len(words), np.int64)
        opens_BT = np.empty((len(words), most), np.int64)
        for place in range(most):
            opens_BT[:, place] = np.where(depth == 0, 1, np.where(depth == self.depth, 0, wants_BT[:, place]))
            depth += 2 * opens_BT[:, place] - 1
        return np.where(np.arange(most) < lengths[:, None], opens_BT, -1)
