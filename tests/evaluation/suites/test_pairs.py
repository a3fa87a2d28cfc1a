"""Scores of sentences are what the model says of their tokens, whatever batch they stand in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deep_delta.data.language.pairs import minimal_pairs
from deep_delta.errors import ConfigError, NumericsError
from deep_delta.evaluation.suites.pairs import both_right, log_likelihoods, preferences
from tests.evaluation.suites.conftest import model_of

SENTENCES = ["the dog sleeps .", "the dogs sleep .", "is the boy that has slept tired ?", "a", "the dog sleeps ."]


def test_a_score_is_the_sum_of_its_tokens_log_probabilities(words):
    model = model_of(words)
    found = log_likelihoods(model, words, SENTENCES)
    for sentence, score in zip(SENTENCES, found, strict=True):
        ids = [words.end_of_text, *words.encode(sentence)]
        with torch.no_grad():
            logits = model(torch.tensor([ids[:-1]]))[0].double()
        expected = sum(
            (logits[place, target] - torch.logsumexp(logits[place], 0)).item() for place, target in enumerate(ids[1:])
        )
        assert score == pytest.approx(expected, rel=1e-5)


def test_batches_of_one_and_of_many_give_the_same(words):
    model = model_of(words)
    items = minimal_pairs("across_clause", "seen", 60)
    sentences = [sentence for item in items for sentence in item.pair]
    alone, together = (log_likelihoods(model, words, sentences, batch_size=size) for size in (1, 64))
    assert np.allclose(alone, together, rtol=1e-5)
    decided = np.abs(alone[::2] - alone[1::2]) > 1e-4
    assert decided.mean() > 0.9
    assert np.array_equal(
        preferences(alone[::2], alone[1::2])[decided], preferences(together[::2], together[1::2])[decided]
    )


def test_nothing_of_the_model_changes(words):
    model = model_of(words).train()
    log_likelihoods(model, words, SENTENCES)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_knows_nothing_ties(words):
    model = model_of(words)
    torch.nn.init.zeros_(model.embedding.weight)
    good, bad = log_likelihoods(model, words, ["the dog sleeps ."]), log_likelihoods(model, words, ["the dog sleep ."])
    length = len(words.encode("the dog sleeps ."))
    assert good[0] == pytest.approx(-length * math.log(words.vocab_size), rel=1e-6)
    assert preferences(good, bad).tolist() == [0.5]


def test_too_long_and_not_finite_are_one_line(words):
    with pytest.raises(ConfigError, match="max_seq_len 64"):
        log_likelihoods(model_of(words), words, ["the dog " * 60])
    model = model_of(words)
    torch.nn.init.constant_(model.norm.weight, math.nan)
    with pytest.raises(NumericsError, match="not finite"):
        log_likelihoods(model, words, SENTENCES)


def test_both_right():
    assert both_right(np.array([1, 1, 1, 0, 0.5, 1, 1]), np.array([0, 0, 1, 1, 2, 2, 3])) == pytest.approx(1 / 3)
    assert both_right(np.array([1.0]), np.array([0])) is None
