"""Intervals and tests against their definitions, worked out by hand or by enumeration."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from deep_delta.evaluation.statistics import EXACT_CLUSTERS, clustered_mcnemar, holm, wilson


def test_wilson_solves_its_own_equation():
    z = 1.959963984540054
    for right, count in ((8, 10), (0, 5), (5, 5), (499.5, 1000), (1, 1)):
        for bound in wilson(right, count):
            if 0 < bound < 1:
                share = right / count
                assert abs(share - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / count))
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    with pytest.raises(ValueError, match="at least 1"):
        wilson(0, 0)


def test_one_question_to_a_cluster_is_mcnemar_s_exact_test():
    one = np.array([1.0] * 9 + [0.0] * 2 + [1.0] * 20)
    other = np.array([0.0] * 9 + [1.0] * 2 + [1.0] * 20)
    expected = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert clustered_mcnemar(one, other, np.arange(31)) == (pytest.approx(expected), 11)


def test_whole_clusters_are_exchanged():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 2, (2, 60)).astype(float)
    clusters = rng.integers(0, 6, 60)
    sums = [float((one - other)[clusters == cluster].sum()) for cluster in range(6)]
    sums = [value for value in sums if value]
    ways = [
        abs(sum(sign * value for sign, value in zip(signs, sums, strict=True)))
        for signs in product((1, -1), repeat=len(sums))
    ]
    expected = np.mean([way >= abs(sum(sums)) - 1e-9 for way in ways])
    assert clustered_mcnemar(one, other, clusters) == (pytest.approx(expected), len(sums))


def test_dependent_questions_are_not_counted_as_many():
    one, other = np.ones(90), np.zeros(90)
    p, clusters = clustered_mcnemar(one, other, np.arange(90) % 3)
    assert (p, clusters) == (0.25, 3)
    assert clustered_mcnemar(one, other, np.arange(90))[0] < 1e-4


def test_equal_answers_have_p_1():
    answers = np.array([1.0, 0.0, 0.5])
    assert clustered_mcnemar(answers, answers, np.arange(3)) == (1.0, 0)


def test_many_clusters_are_drawn_the_same_each_time():
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 2, (2, 400)).astype(float)
    clusters = np.arange(400) % (EXACT_CLUSTERS + 20)
    first = clustered_mcnemar(one, other, clusters)
    assert first == clustered_mcnemar(one, other, clusters)
    assert 0.05 < first[0] <= 1


def test_equal_models_are_seldom_told_apart():
    rng = np.random.default_rng(2)
    found = [
        clustered_mcnemar(*rng.integers(0, 2, (2, 200)).astype(float), np.arange(200) % 12)[0] < 0.05
        for _ in range(400)
    ]
    assert 0.02 < np.mean(found) < 0.08


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
