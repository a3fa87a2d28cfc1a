"""What word counts alone get right: an n-gram model of the text that a model was trained on."""

# N words, L words of a sentence

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

ORDER = 5
DISCOUNT = 0.75
_START = 0
_MIX = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9], dtype=np.uint64)


class NGrams:
    """Counts of 1 to 5 words, lines apart, and their probabilities by interpolated absolute discounting:

    p(w | h) = max(c(hw) − d, 0) / c(h) + d · n(h) / c(h) · p(w | h without its first word),

    d = 0.75, n(h) different words after h; the words by themselves get (c(w) + 1) / (c + V + 1).
    """

    def __init__(self, lines: Iterable[str], order: int = ORDER) -> None:
        self.order = order
        self._ids: dict[str, int] = {}
        words: list[int] = []
        for line in lines:
            sentence = line.split()
            if sentence:
                words += [_START] * (order - 1)
                words += [self._ids.setdefault(word, len(self._ids) + 1) for word in sentence]
        ids = np.array(words, dtype=np.uint64)
        is_word = ids != _START
        self._vocabulary = len(self._ids)
        self._tables = [_Table(_keys(ids, n)[is_word], _keys(ids, n, skip=1)[is_word]) for n in range(1, order + 1)]
        self.num_words = int(is_word.sum())

    def log_likelihoods(self, sentences: Sequence[str], order: int) -> np.ndarray:
        """Nats of each sentence by n-grams of at most `order` words, float64."""
        words: list[int] = []
        which: list[int] = []
        for number, sentence in enumerate(sentences):
            found = [self._ids.get(word, self._vocabulary + 1) for word in sentence.split()]
            words += [_START] * (self.order - 1) + found
            which += [number] * (self.order - 1 + len(found))
        ids = np.array(words, dtype=np.uint64)
        is_word = ids != _START
        counts, _, _ = self._tables[0].look(_keys(ids, 1)[is_word], _keys(ids, 1, skip=1)[is_word])
        p = (counts + 1) / (self.num_words + self._vocabulary + 1)
        for n in range(2, order + 1):
            count, total, different = self._tables[n - 1].look(_keys(ids, n)[is_word], _keys(ids, n, skip=1)[is_word])
            known = total > 0
            safe = np.where(known, total, 1)
            p = np.where(known, np.maximum(count - DISCOUNT, 0) / safe + DISCOUNT * different / safe * p, p)
        return np.bincount(np.array(which)[is_word], weights=np.log(p), minlength=len(sentences))


class _Table:
    """Sorted keys of one order with their counts, and of their histories: how often, and with how many words."""

    def __init__(self, grams: np.ndarray, histories: np.ndarray) -> None:
        self.grams, first, self.counts = np.unique(grams, return_index=True, return_counts=True)
        self.histories, place = np.unique(histories[first], return_inverse=True)
        self.totals = np.bincount(place, weights=self.counts, minlength=len(self.histories))
        self.different = np.bincount(place, minlength=len(self.histories))

    def look(self, grams: np.ndarray, histories: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Counts of the grams, and of their histories how often and with how many different words; 0 where unknown."""
        count = _found(self.grams, self.counts, grams)
        return count, _found(self.histories, self.totals, histories), _found(self.histories, self.different, histories)


def _found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _keys(ids: np.ndarray, n: int, skip: int = 0) -> np.ndarray:
    """A number for the n words that end at each place, the last `skip` of them left out; wraps around at the start,
    where there are no words."""
    key = np.zeros(len(ids), dtype=np.uint64)
    for back in range(n - 1, skip - 1, -1):
        key = (key ^ (np.roll(ids, back) + np.uint64(1))) * _MIX[0]
        key ^= key >> np.uint64(29)
        key *= _MIX[1]
    return key
