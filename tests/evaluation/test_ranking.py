from __future__ import annotations

import math
import random
from typing import Any

import pytest

from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation.ranking import rank_pieces, rank_runs, rank_seeds, student_quantile
from deep_delta.runs.comparison import Origin, Ranking, TrainedVariant, TrainingComparison
from deep_delta.runs.manifest import DataIdentity


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    [(0.95, 1, 12.7062), (0.95, 2, 4.3027), (0.95, 6, 2.4469), (0.99, 5, 4.0321), (0.95, 1000, 1.9623)],
)
def test_student_s_quantile_is_the_table_s(confidence: float, freedom: int, quantile: float):
    assert student_quantile(confidence, freedom) == pytest.approx(quantile, abs=1e-4)


def unresolved(ranking: Ranking) -> dict[str, set[str]]:
    return {standing.variant: set(standing.not_resolved_from) for standing in ranking.standings}


def test_the_order_is_the_mean_s():
    ranking = rank_seeds({"a": [3.0, 3.1], "b": [1.0, 1.1], "c": [2.0, 2.1]}, "loss")
    assert [(one.rank, one.variant, one.mean) for one in ranking.standings] == [
        (1, "b", pytest.approx(1.05)),
        (2, "c", pytest.approx(2.05)),
        (3, "a", pytest.approx(3.05)),
    ]
    assert ranking.standings[0].values == (1.0, 1.1)


def test_far_apart_is_resolved_and_close_is_not():
    ranking = rank_seeds({"far": [9.0, 9.01], "one": [1.0, 1.02], "other": [1.01, 1.03]}, "loss")
    assert unresolved(ranking) == {"far": set(), "one": {"other"}, "other": {"one"}}


def test_two_seeds_that_overlap_are_not_resolved():
    assert unresolved(rank_seeds({"a": [1.0, 2.0], "b": [1.5, 2.5]}, "loss")) == {"a": {"b"}, "b": {"a"}}


def test_one_seed_resolves_nothing_and_says_why():
    ranking = rank_seeds({"a": [1.0], "b": [100.0]}, "loss")
    assert unresolved(ranking) == {"a": {"b"}, "b": {"a"}}
    assert ranking.rule.startswith("not resolved: one seed each")


def test_equal_values_are_never_resolved():
    assert unresolved(rank_seeds({"a": [1.0, 1.0], "b": [1.0, 1.0]}, "loss")) == {"a": {"b"}, "b": {"a"}}


def test_the_threshold_is_the_formula_s():
    spread, quantile = math.sqrt(0.5 * 0.1**2), student_quantile(0.95, 2)
    margin = quantile * spread  # √(1/2 + 1/2) = 1
    for gap, resolved in ((margin * 1.001, True), (margin * 0.999, False)):
        ranking = rank_seeds({"a": [1.0, 1.1], "b": [1.0 + gap, 1.1 + gap]}, "loss")
        assert (unresolved(ranking)["a"] == set()) is resolved


def test_equal_variants_are_seldom_called_resolved():
    draw = random.Random(0)
    wrong = 0
    for _ in range(60):
        values = {name: [draw.gauss(0, 1), draw.gauss(0, 1)] for name in "abcdef"}
        wrong += any(len(others) < 5 for others in unresolved(rank_seeds(values, "loss")).values())
    assert wrong / 60 < 0.1


def test_pieces_resolve_a_small_difference_that_is_always_there():
    draw = random.Random(0)
    base = [draw.gauss(2, 0.5) for _ in range(50)]
    values = {"a": base, "b": [value + 0.01 for value in base], "c": [value + draw.gauss(0, 0.1) for value in base]}
    ranking = rank_pieces(values, [100.0] * 50, "bits")
    assert "b" not in unresolved(ranking)["a"]
    assert "c" in unresolved(ranking)["a"]


def test_pieces_are_weighted():
    ranking = rank_pieces({"a": [1.0, 3.0], "b": [2.0, 2.0]}, [3.0, 1.0], "bits")
    assert [(one.variant, one.mean) for one in ranking.standings] == [("a", 1.5), ("b", 2.0)]


def test_what_a_piece_is_stands_in_the_rule():
    values = {"a": [1.0, 3.0], "b": [2.0, 2.5]}
    text, task = rank_pieces(values, [1.0, 1.0], "bits"), rank_pieces(values, [1.0, 1.0], "wrong", pieces="examples")
    assert "over 2 pieces of text exceeds" in text.rule
    assert "the choice of pieces of text, not the seed" in text.rule
    assert "over 2 examples exceeds" in task.rule


def test_one_piece_resolves_nothing():
    assert unresolved(rank_pieces({"a": [1.0], "b": [2.0]}, [1.0], "bits")) == {"a": {"b"}, "b": {"a"}}


def run_of(losses: dict[str, float | None], seed: int = 0, **changes: Any) -> TrainingComparison:
    runs = tuple(
        TrainedVariant(
            variant=variant,
            seed=seed,
            status=changes.get("status", "finished"),
            model=changes.get("model", {"d_model": 8}),
            parameters=1,
            step=4,
            best_loss=loss,
            best_step=4,
            tokens_per_second=None,
            curve=(),
            evaluations=(),
        )
        for variant, loss in losses.items()
    )
    sha256, layout = changes.get("sha256", "0" * 64), changes.get("layout", 1)
    return TrainingComparison(
        training={"seed": seed, "max_steps": changes.get("max_steps", 4)},
        data=DataIdentity(name="text", sha256=sha256, tokenizer="byte", tokenizer_sha256="1" * 64, layout=layout),
        data_spec=None,
        origin=Origin(versions={}, commit=None, hardware={}),
        runs=runs,
        ranking=Ranking(measure="", rule="", standings=()),
    )


def test_runs_of_several_seeds_are_ranked_together():
    ranking = rank_runs([run_of({"a": 1.0, "b": 9.0}), run_of({"a": 1.01, "b": 9.01}, seed=1)])
    assert [one.values for one in ranking.standings] == [(1.0, 1.01), (9.0, 9.01)]
    assert unresolved(ranking) == {"a": set(), "b": set()}


def test_variants_without_a_loss_are_not_ranked():
    ranking = rank_runs([run_of({"a": 1.0, "b": None})])
    assert [one.variant for one in ranking.standings] == ["a"]
    assert rank_runs([run_of({"a": None})]).rule == "nothing finished that has a validation loss"
    assert rank_runs([run_of({"a": 1.0}, status="unfinished")]).standings == ()


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (run_of({"a": 1.0}, seed=1, sha256="2" * 64), DataError, "text or tokenizer differ"),
        (run_of({"a": 1.0}, seed=1, layout=2), DataError, "in layouts 1 and 2 cannot be ranked"),
        (run_of({"a": 1.0}, seed=1, max_steps=8), ConfigError, "different max_steps"),
        (run_of({"a": 1.0}, seed=1, model={"d_model": 16}), ConfigError, "a is not the same model in all runs"),
        (run_of({"a": 1.0}), ConfigError, "a appears twice with seed 0"),
    ],
    ids=["text", "layout", "steps", "model", "seed"],
)
def test_runs_that_differ_in_more_than_the_seed_are_refused(
    other: TrainingComparison, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        rank_runs([run_of({"a": 1.0}), other])
