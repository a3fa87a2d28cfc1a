"""Variants are ranked over seeds where nothing but the seed tells models apart."""

from __future__ import annotations

from typing import Any

import pytest

from deep_delta.evaluation.seeds import Trained, rank_over_seeds
from deep_delta.runs.manifest import DataIdentity

DATA = DataIdentity(name="book", sha256="0" * 64, tokenizer="byte", tokenizer_sha256="1" * 64)


def trained(variant: str = "ddl", seed: int = 0, **fields: Any) -> Trained:
    usual = {"step": 10, "data": DATA, "model": {"d_model": 8}, "training": {"learning_rate": 1e-3}}
    return Trained(f"{variant}-{seed}", variant, seed, **(usual | fields))


def test_the_mean_over_seeds_and_its_interval():
    measured = [(trained("ddl", seed), value) for seed, value in enumerate((1.0, 2.0, 3.0))]
    measured += [(trained("baseline", seed), value) for seed, value in enumerate((10.0, 11.0, 12.0))]
    ranking, problem = rank_over_seeds(measured, "loss")
    assert problem is None
    first, second = ranking.standings
    assert (first.variant, first.mean, second.mean) == ("ddl", 2.0, 11.0)
    assert first.margin == pytest.approx(2.776445 / 3**0.5, rel=1e-5), "spread 1, four degrees of freedom"
    assert first.not_resolved_from == ()


def test_one_model_of_each_is_not_ranked_over_seeds():
    assert rank_over_seeds([(trained("ddl"), 1.0), (trained("baseline"), 2.0)], "loss") == (None, None)
    assert rank_over_seeds([(trained("ddl", 0), 1.0), (trained("ddl", 1), 2.0)], "loss") == (None, None)
    assert rank_over_seeds([], "loss") == (None, None)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (trained(seed=1, step=20), "ddl-0 is at step 10, and ddl-1 at step 20"),
        (trained(seed=0), "ddl is there twice with seed 0"),
        (trained(seed=1, training={"learning_rate": 1e-4}), "differ in learning_rate"),
        (trained(seed=1, model={"d_model": 16}), "models of ddl differ in d_model"),
        (trained(seed=1, data=DATA.model_copy(update={"sha256": "2" * 64})), "on different text"),
    ],
)
def test_what_differs_in_more_than_its_seed_is_not_pooled_and_says_why(other: Trained, says: str):
    ranking, problem = rank_over_seeds([(trained(), 1.0), (trained("baseline"), 2.0), (other, 3.0)], "loss")
    assert ranking is None
    assert problem.startswith("not ranked over seeds: ")
    assert says in problem
