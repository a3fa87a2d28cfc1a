from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from deep_delta.data.synthetic.groups import Group, WordProblem, cyclic, symmetric
from deep_delta.data.synthetic.words import random_words

GROUPS = {
    "z2": (cyclic(2), 2),
    "z5": (cyclic(5), 5),
    "s3": (symmetric(3), 6),
    "a5": (symmetric(5, even=True), 60),
    "s5": (symmetric(5), 120),
}


@pytest.fixture(params=GROUPS)
def group(request: pytest.FixtureRequest) -> Group:
    return GROUPS[request.param][0]


@pytest.mark.parametrize(("group", "order"), GROUPS.values(), ids=GROUPS)
def test_orders(group: Group, order: int):
    assert len(group.elements) == len(set(group.elements)) == order
    assert group.table.shape == (order, order)


def test_the_axioms(group: Group):
    table, numbers = group.table, np.arange(len(group.elements))
    assert (table[0] == numbers).all()
    assert (table[:, 0] == numbers).all()
    assert (np.sort(table, axis=0) == numbers[:, None]).all()  # so that every element has an inverse
    assert (np.sort(table, axis=1) == numbers).all()
    few = numbers if len(numbers) <= 60 else np.random.default_rng(0).choice(numbers, 40, replace=False)
    left = table[table[few[:, None], few][:, :, None], few]
    right = table[few[:, None, None], table[few[:, None], few][None]]
    assert (left == right).all()


@pytest.mark.parametrize("degree", [3, 5])
def test_the_table_composes_permutations_the_first_one_first(degree: int):
    group = symmetric(degree)
    for (i, one), (j, other) in product(enumerate(group.elements), repeat=2):
        composed = "".join(other[int(image) - 1] for image in one)
        assert group.elements[group.table[i, j]] == composed


def test_a5_is_the_even_half_of_s5_and_not_commutative():
    a5, s5 = GROUPS["a5"][0], GROUPS["s5"][0]
    assert set(a5.elements) < set(s5.elements)
    swaps = [sum(one[i] > one[j] for i in range(5) for j in range(i + 1, 5)) for one in a5.elements]
    assert not any(count % 2 for count in swaps)
    assert not (a5.table == a5.table.T).all()


def test_targets_are_the_product_of_all_tokens_so_far(group: Group):
    rule, lengths = WordProblem(group), np.array([9, 30, 1, 17])
    ids, targets = rule.make(random_words("x", np.arange(4), rule.num_words(30)), lengths)
    assert ids.shape == targets.shape == (4, 30)
    for row, length in enumerate(lengths):
        state = 0
        for t in range(length):
            state = int(group.table[state, ids[row, t]])
            assert targets[row, t] == state


def test_parity_is_whether_the_ones_so_far_are_odd():
    rule = WordProblem(cyclic(2))
    ids, targets = rule.make(random_words("x", np.arange(50), 20), np.full(50, 20))
    for row in range(50):
        assert targets[row].tolist() == [sum(ids[row, : t + 1].tolist()) % 2 for t in range(20)]


def test_tokens_and_states_are_even_so_that_chance_is_one_in_all(group: Group):
    rule = WordProblem(group)
    ids, targets = rule.make(random_words("x", np.arange(2000), 40), np.full(2000, 40))
    for numbers in (ids, targets, targets[:, -1]):
        shares = np.bincount(numbers.ravel(), minlength=len(group.elements)) / numbers.size
        assert abs(shares - rule.chance).max() < 5 * np.sqrt(rule.chance / numbers.size)
