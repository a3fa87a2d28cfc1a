"""Counts of words, against a plain implementation, and as a model that can be beaten."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from deep_delta.data.language.draw import draws
from deep_delta.data.language.pairs import minimal_pairs
from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.data.language.text import training_sentences
from deep_delta.evaluation.suites.ngrams import DISCOUNT, NGrams
from deep_delta.evaluation.suites.pairs import preferences

TEXT = ["the dog sees the cat .", "the cat sleeps .", "", "a dog sleeps .", "the dog sleeps ."]


def plain(lines, sentence, order):
    """Interpolated absolute discounting, word by word."""
    padded = [["<s>"] * 4 + line.split() for line in lines if line.split()]
    counts = {
        n: Counter(tuple(line[i - n + 1 : i + 1]) for line in padded for i in range(4, len(line))) for n in range(1, 6)
    }
    vocabulary, total = len(counts[1]), sum(counts[1].values())
    words = ["<s>"] * 4 + sentence.split()
    score = 0.0
    for i in range(4, len(words)):
        p = (counts[1][(words[i],)] + 1) / (total + vocabulary + 1)
        for n in range(2, order + 1):
            history = tuple(words[i - n + 1 : i])
            after = {gram: count for gram, count in counts[n].items() if gram[:-1] == history}
            if after:
                seen = sum(after.values())
                p = max(counts[n][(*history, words[i])] - DISCOUNT, 0) / seen + DISCOUNT * len(after) / seen * p
        score += math.log(p)
    return score


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_equals_a_plain_implementation(order):
    sentences = ["the dog sleeps .", "a cat sees the dog .", "the unknown zebra .", "."]
    found = NGrams(TEXT).log_likelihoods(sentences, order)
    assert found == pytest.approx([plain(TEXT, sentence, order) for sentence in sentences])


@pytest.mark.parametrize("order", [1, 2, 5])
def test_probabilities_sum_to_one(order):
    words = [*sorted({word for line in TEXT for word in line.split()}), "unknown"]
    counts = NGrams(TEXT)
    before = counts.log_likelihoods(["the dog"], order)[0]
    after = counts.log_likelihoods([f"the dog {word}" for word in words], order)
    assert np.exp(after - before).sum() == pytest.approx(1)


def test_words_side_by_side_are_learnt_and_word_frequencies_are_worth_nothing():
    counts = NGrams(training_sentences(20_000))

    def score(name, order):
        items = minimal_pairs(name, "seen", 400)
        good, bad = (counts.log_likelihoods([item.pair[side] for item in items], order) for side in (0, 1))
        return preferences(good, bad).mean()

    assert score("determiner_noun", 1) == 0.5
    assert score("determiner_noun", 2) > 0.9
    assert score("across_clause", 5) < 0.8
    assert score("inversion", 5) < 0.7


def sentences_of(name, *, shuffled):
    """Sentences without end of the seen templates of a phenomenon; of good and bad ones by a coin if shuffled."""
    for draw in draws("shuffled", held=False):
        group = draw.of(PHENOMENA[name].seen)(draw)
        pair = draw.of(group)
        yield draw.of(pair) if shuffled else pair.good


def test_a_text_with_shuffled_labels_teaches_nothing():
    """Sentences of the same templates, all good ones or good and bad ones by a coin."""

    def score(*, shuffled):
        found = []
        for name in PHENOMENA:
            counts = NGrams(islice(sentences_of(name, shuffled=shuffled), 1000))
            items = minimal_pairs(name, "seen", 100)
            good, bad = (counts.log_likelihoods([item.pair[side] for item in items], 5) for side in (0, 1))
            found.append(preferences(good, bad).mean())
        return np.mean(found)

    assert score(shuffled=False) > 0.65
    assert 0.44 < score(shuffled=True) < 0.56


def test_no_text_knows_nothing():
    assert np.isfinite(NGrams([]).log_likelihoods(["the dog"], 5)).all()
