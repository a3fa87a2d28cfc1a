from __future__ import annotations

import numpy as np
import pytest

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.copying import SEPARATOR, Copying
from deep_delta.data.synthetic.words import random_words


@pytest.mark.parametrize("num_symbols", [2, 16, 26])
def test_the_string_is_asked_for_from_the_separator_on(num_symbols: int):
    rule, lengths = Copying(num_symbols), np.array([1, 7, 30, 2])
    ids, targets = rule.make(random_words("x", np.arange(4), rule.num_words(30)), lengths)
    assert rule.symbols[-1] == SEPARATOR
    for row, length in enumerate(lengths):
        string = ids[row, :length].tolist()
        assert max(string) < num_symbols
        assert ids[row, : 2 * length].tolist() == [*string, num_symbols, *string[:-1]]
        assert targets[row, : 2 * length].tolist() == [*[IGNORED] * length, *string]


def test_symbols_are_even():
    rule = Copying(16)
    ids, _ = rule.make(random_words("x", np.arange(5000), 10), np.full(5000, 10))
    assert abs(np.bincount(ids[:, :10].ravel(), minlength=16) / 50_000 - rule.chance).max() < 0.006
