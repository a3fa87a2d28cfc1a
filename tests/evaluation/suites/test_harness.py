"""The model class for lm-evaluation-harness says what the model says."""

from __future__ import annotations

import pytest
import torch

from deep_delta.data.language.text import training_sentences
from deep_delta.errors import DataError
from deep_delta.evaluation.suites.harness import harness_model, rolling, score_continuation
from deep_delta.evaluation.suites.pairs import log_likelihoods
from deep_delta.generation.engine import generate
from deep_delta.generation.sampling import Sampling
from tests.evaluation.suites.conftest import model_of

TEXT = "\n".join(training_sentences(40))


class Request:
    """What the harness hands over."""

    def __init__(self, *args):
        self.args = args


@pytest.fixture
def wrapped(words):
    pytest.importorskip("lm_eval")
    model = model_of(words)
    return model, harness_model(model, words)


def test_answers_are_scored_as_sentences_are(wrapped, words):
    model, asked = wrapped
    (whole,) = asked.loglikelihood([Request("", "the dog sleeps .")])
    assert whole[0] == pytest.approx(log_likelihoods(model, words, ["the dog sleeps ."])[0], rel=1e-5)
    (answer,) = asked.loglikelihood([Request("the dog", " sleeps .")])
    (context,) = asked.loglikelihood([Request("", "the dog")])
    end = score_continuation(model, [words.end_of_text, *words.encode("the dog")], words.encode(" sleeps ."))
    assert context[0] + end[0] == pytest.approx(whole[0], rel=1e-5)
    assert not answer[1]


def test_the_likeliest_answer_is_told(words):
    model = model_of(words)
    context = [words.end_of_text, *words.encode("the dog")]
    with torch.no_grad():
        likeliest = int(model(torch.tensor([context]))[0, -1].argmax())
    assert score_continuation(model, context, [likeliest])[1]
    assert not score_continuation(model, context, [likeliest - 1])[1]


def test_a_text_is_scored_a_window_at_a_time(wrapped, words):
    model, asked = wrapped
    ids = words.encode(TEXT)
    limit = model.config.context_limit
    assert len(ids) > 3 * limit
    (found,) = asked.loglikelihood_rolling([Request(TEXT)])
    padded = [words.end_of_text, *ids]
    expected = sum(
        score_continuation(model, padded[place : place + 1], padded[place + 1 : place + 1 + limit])[0]
        for place in range(0, len(ids), limit)
    )
    assert found == pytest.approx(expected, rel=1e-6)
    assert rolling(model, words, "the dog .") == pytest.approx(
        log_likelihoods(model, words, ["the dog ."])[0], rel=1e-5
    )
    assert rolling(model, words, "") == 0


def test_continuations_are_greedy_and_end_where_they_are_told(wrapped, words):
    model, asked = wrapped
    (found,) = asked.generate_until([Request("the dog", {"until": ["@@"], "max_gen_toks": 12})])
    greedy = generate(model, words, "the dog", max_new_tokens=12, sampling=Sampling(temperature=0.0))
    assert found == "".join(greedy)
    stop = found[3:5]
    (ended,) = asked.generate_until([Request("the dog", {"until": stop, "max_gen_toks": 12})])
    assert ended == found[: found.index(stop)]


def test_an_answer_that_is_empty_or_too_long(words):
    model = model_of(words)
    assert score_continuation(model, [1, 2, 3], []) == (0.0, True)
    with pytest.raises(DataError, match="an answer has 65 tokens, and the model holds 64"):
        score_continuation(model, [1], [2] * 65)


def test_an_answer_that_its_context_swallows_is_scored_apart(words):
    """As one token, "ab" would leave no token for the answer, and its score would be that of certainty."""
    pytest.importorskip("lm_eval")

    class Swallowing:
        end_of_text = words.end_of_text

        def encode(self, text):
            return {"a": [5], "b": [6], "ab": [7]}[text]

    model = model_of(words)
    (found,) = harness_model(model, Swallowing()).loglikelihood([Request("a", "b")])
    assert found[0] == score_continuation(model, [5], [6])[0] < 0
