import math
from dataclasses import replace

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
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_p": math.nan}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": -1.0}, "repetition_penalty"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"repetition_penalty": math.nan}, "repetition_penalty"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_named(options, name):
    with pytest.raises(ConfigError, match=name) as caught:
        Sampling(**options)
    assert "\n" not in str(caught.value)


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


def test_min_p_keeps_what_is_likely_beside_the_likeliest():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    kept = probabilities(logits, Sampling(min_p=0.2)) > 0
    assert kept.tolist() == [True, True, True, False]
    assert probabilities(logits, Sampling(min_p=1.0)).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert torch.equal(probabilities(logits, Sampling(min_p=0.0)), probabilities(logits, Sampling()))


def test_min_p_compares_after_the_temperature():
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    assert (probabilities(logits, Sampling(min_p=0.4, temperature=0.5)) > 0).sum() == 1
    assert (probabilities(logits, Sampling(min_p=0.4, temperature=2.0)) > 0).sum() == 3


def test_the_penalty_divides_what_is_positive_and_multiplies_what_is_negative():
    logits, seen = torch.tensor([2.0, -2.0, 0.0, 2.0]), torch.tensor([True, True, True, False])
    expected = torch.tensor([1.0, -4.0, 0.0, 2.0]).double().softmax(-1)
    torch.testing.assert_close(probabilities(logits, Sampling(repetition_penalty=2.0), seen), expected)


def test_the_penalty_counts_at_zero_temperature():
    logits, seen = torch.tensor([3.0, 2.0, -torch.inf]), torch.tensor([True, False, True])
    penalized, generator = Sampling(repetition_penalty=2.0, temperature=0.0), torch.Generator()
    assert [draw(logits, penalized, generator, given) for given in (None, seen, ~seen)] == [0, 1, 0]
    assert probabilities(logits, penalized, seen).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("penalty", [1e-6, 1e6])
def test_an_extreme_penalty_leaves_a_distribution(penalty):
    logits, seen = torch.tensor([1e30, -1e30, 1.0, -torch.inf]), torch.ones(4, dtype=torch.bool)
    found = probabilities(logits, Sampling(repetition_penalty=penalty), seen)
    assert found.tolist() == [1.0, 0.0, 0.0, 0.0]


@given(
    st.lists(st.floats(-20, 20) | st.just(-math.inf), max_size=30),
    st.integers(0, 2**31),
    st.builds(
        Sampling,
        repetition_penalty=st.floats(0.1, 10),
        temperature=st.just(0.0) | st.floats(0.01, 10),
        top_k=st.none() | st.integers(1, 40),
        top_p=st.floats(1e-6, 1),
        min_p=st.floats(0, 1),
    ),
)
def test_every_combination_leaves_a_distribution_that_holds_the_likeliest(logits, seed, sampling):
    logits = torch.tensor([*logits, 0.0])
    seen = torch.rand(len(logits), generator=torch.Generator().manual_seed(seed)) < 0.5
    found = probabilities(logits, sampling, seen)
    whole = probabilities(logits, replace(sampling, top_k=None, top_p=1.0, min_p=0.0), seen)
    assert found.sum().item() == pytest.approx(1)
    assert whole[found.argmax()] == pytest.approx(whole.max().item())  # one of those that are as likely as any
    assert found[logits == -math.inf].sum() == 0


PEERS = {
    "RepetitionPenaltyLogitsProcessor": ("repetition_penalty", (0.5, 1.3, 4.0)),
    "TemperatureLogitsWarper": ("temperature", (0.3, 1.7)),
    "TopKLogitsWarper": ("top_k", (1, 7, 99)),
    "TopPLogitsWarper": ("top_p", (0.05, 0.5, 0.95)),
    "MinPLogitsWarper": ("min_p", (0.02, 0.3, 1.0)),
}


def peer_probabilities(logits, ids, **options):
    """What transformers makes of the same logits, each of its processors in turn; in fp64, as here."""
    peers = pytest.importorskip("transformers.generation.logits_process")
    scores = logits.double().unsqueeze(0)
    for name, (field, _) in PEERS.items():
        if field in options:
            scores = getattr(peers, name)(options[field])(ids.unsqueeze(0), scores)
    return scores[0].softmax(-1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "options",
    [
        *({field: value} for field, values in PEERS.values() for value in values),
        {"repetition_penalty": 1.5, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "min_p": 0.1},
        {"repetition_penalty": 0.8, "temperature": 1.9, "top_k": 35, "top_p": 0.7, "min_p": 0.3},
    ],
    ids=str,
)
def test_it_is_what_transformers_does(options, seed):
    """Random logits have no ties; among equal ones its top-k keeps all that tie with the k-th, and here exactly k."""
    generator = torch.Generator().manual_seed(seed)
    logits, ids = 3 * torch.randn(40, generator=generator), torch.randint(0, 40, (15,), generator=generator)
    seen = torch.zeros(40, dtype=torch.bool).index_fill(0, ids, True)
    ours = probabilities(logits, Sampling(**options), seen)
    torch.testing.assert_close(ours, peer_probabilities(logits, ids, **options), atol=1e-12, rtol=1e-9)


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
