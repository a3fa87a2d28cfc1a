"""Copying: a string, a separator, and the string again, each symbol of which is asked for from the separator on."""

# B batch, N symbols of the string, T time

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.words import below

MOST_SYMBOLS = len(ascii_lowercase)
SEPARATOR = "|"


@dataclass(frozen=True)
class Copying:
    """s₁ … s_n | s₁ … s_{n−1}, with targets s₁ … s_n from the separator on. A length counts the string's symbols.

    num_symbols: different ones of a string, each drawn evenly.
    """

    num_symbols: int
    unit = "symbols"
    longest = None

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*ascii_lowercase[: self.num_symbols], SEPARATOR)

    @property
    def chance(self) -> float:
        return 1 / self.num_symbols

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 2 * lengths

    def num_words(self, length: int) -> int:
        return length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`; errors: none."""
        most = int(lengths.max())
        string_BN = below(words[:, :most], self.num_symbols)
        after_BT = np.arange(2 * most) - lengths[:, None]  # 0 at the separator
        place_BT = np.clip(np.where(after_BT < 0, after_BT + lengths[:, None], after_BT - 1), 0, most - 1)
        ids_BT = np.where(after_BT == 0, self.num_symbols, np.take_along_axis(string_BN, place_BT, axis=1))
        asked_BT = np.take_along_axis(string_BN, np.clip(after_BT, 0, most - 1), axis=1)
        return ids_BT, np.where((after_BT >= 0) & (after_BT < lengths[:, None]), asked_BT, IGNORED)
