from __future__ import annotations

import numpy as np
import pytest

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.recall import Recall
from deep_delta.data.synthetic.words import random_words


def made(rule: Recall, lengths: list[int]):
    counts = np.array(lengths)
    return rule.make(random_words("x", np.arange(len(counts)), rule.num_words(max(lengths))), counts)


@pytest.mark.parametrize(("keys", "values", "lengths"), [(8, 4, [8, 1, 5, 3]), (64, 64, [16] * 5), (1, 2, [1, 1])])
def test_every_query_asks_for_the_value_behind_its_key(keys: int, values: int, lengths: list[int]):
    rule = Recall(keys, values)
    ids, targets = made(rule, lengths)
    for row, pairs in enumerate(lengths):
        words = [rule.symbols[index] for index in ids[row, : 3 * pairs]]
        memory = dict(zip(words[0 : 2 * pairs : 2], words[1 : 2 * pairs : 2], strict=True))
        assert len(memory) == pairs
        assert all(key[0] == "k" and value[0] == "v" for key, value in memory.items())
        assert (targets[row, : 2 * pairs] == IGNORED).all()
        queries, answers = words[2 * pairs :], targets[row, 2 * pairs : 3 * pairs]
        assert sorted(queries) == sorted(memory)
        assert [rule.symbols[answer] for answer in answers] == [memory[query] for query in queries]


def test_an_example_does_not_depend_on_those_beside_it():
    rule = Recall(32, 8)
    words = random_words("x", np.arange(3), rule.num_words(20))
    together = rule.make(words, np.array([4, 20, 9]))
    alone = rule.make(words[:1], np.array([4]))
    for one, other in zip(alone, together, strict=True):
        assert (one[0] == other[0, :12]).all()


def test_keys_values_and_the_order_of_queries_are_even():
    rule = Recall(16, 8)
    ids, targets = made(rule, [4] * 20_000)
    for numbers, choices in ((ids[:, :8:2], 16), (ids[:, 1:8:2] - 16, 8), (targets[:, 8:] - 16, 8)):
        for column in numbers.T:
            assert abs(np.bincount(column, minlength=choices) / 20_000 - 1 / choices).max() < 0.01
    first_asked = (ids[:, 8:9] == ids[:, :8:2]).argmax(axis=1)
    assert abs(np.bincount(first_asked, minlength=4) / 20_000 - 0.25).max() < 0.015
