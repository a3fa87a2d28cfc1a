import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.errors import ConfigError, NumericsError
from deep_delta.generation.sampling import Sampling, draw, probabilities

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0, -torch.inf])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named(options, name):
    with pytest.raises(ConfigError, match=name):
        Sampling(**options)


def test_plain_sampling_is_the_softmax():
    torch.testing.assert_close(probabilities(LOGITS, Sampling()), LOGITS.double().softmax(-1))


def test_temperature_divides_the_logits():
    torch.testing.assert_close(probabilities(LOGITS, Sampling(temperature=0.5)), (2 * LOGITS).double().softmax(-1))


def test_zero_temperature_takes_the_likeliest_and_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert draw(LOGITS, Sampling(temperature=0.0), generator) == 1
    assert torch.equal(generator.get_state(), before)


def test_top_k_keeps_k_and_renormalises():
    expected = torch.zeros(5, dtype=torch.float64)
    expected[[1, 2]] = LOGITS[[1, 2]].double().softmax(-1)
    torch.testing.assert_close(probabilities(LOGITS, Sampling(top_k=2)), expected)


def test_top_k_among_equals_keeps_exactly_k():
    assert (probabilities(torch.zeros(10), Sampling(top_k=3)) > 0).sum() == 3


def test_top_k_beyond_the_vocabulary_keeps_all():
    torch.testing.assert_close(probabilities(LOGITS, Sampling(top_k=99)), probabilities(LOGITS, Sampling()))


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=40), st.floats(0.01, 1.0), st.floats(0.1, 3.0))
def test_top_p_keeps_the_fewest_that_reach_p(logits, top_p, temperature):
    logits = torch.tensor(logits)
    whole = probabilities(logits, Sampling(temperature=temperature))
    kept = probabilities(logits, Sampling(temperature=temperature, top_p=top_p)) > 0
    assert kept.any()
    assert whole[kept].min() >= whole[~kept].max() if (~kept).any() else True
    assert whole[kept].sum() >= top_p - 1e-9
    assert whole[kept].sum() - whole[kept].min() < top_p + 1e-9


def test_top_p_counts_what_top_k_left():
    # of four equal tokens top_k leaves two, each with half: 0.4 is reached by one
    assert (probabilities(torch.zeros(4), Sampling(top_k=2, top_p=0.4)) > 0).sum() == 1


def test_draws_follow_the_distribution():
    generator = torch.Generator().manual_seed(1)
    counts = torch.bincount(torch.tensor([draw(LOGITS, Sampling(), generator) for _ in range(4000)]), minlength=5)
    torch.testing.assert_close(counts / 4000, LOGITS.softmax(-1), atol=0.03, rtol=0)
    assert counts[4] == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(NumericsError, match="not finite"):
        probabilities(torch.tensor([0.0, bad]), Sampling())


def test_half_precision_logits_are_sampled_in_double():
    assert probabilities(LOGITS.bfloat16(), Sampling(temperature=1e-3)).dtype == torch.float64
