"""Seeds as a level of their own: variants are ranked over them where models differ in their seed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from deep_delta.evaluation.ranking import rank_seeds
from deep_delta.runs.comparison import Ranking
from deep_delta.runs.manifest import DataIdentity, Manifest, Scalar

_NO_RECIPE = frozenset(("seed", "tracker", "max_time", "data_workers", "checkpoint_interval", "keep_checkpoints"))
"""Fields of the training that models of one recipe may differ in."""


class Trained(NamedTuple):
    """How a saved model came about."""

    name: str
    variant: str
    seed: int
    step: int
    data: DataIdentity
    model: Mapping[str, Scalar]
    """its configuration"""
    training: Mapping[str, Scalar]
    """how it was trained, but for the seed and what changes no number"""

    @classmethod
    def of(cls, name: str, manifest: Manifest) -> Trained:
        seed = manifest.training.get("seed")
        recipe = {field: value for field, value in manifest.training.items() if field not in _NO_RECIPE}
        seed = seed if isinstance(seed, int) else 0
        return cls(name, manifest.variant, seed, manifest.step, manifest.data, manifest.model, recipe)


def rank_over_seeds(measured: Sequence[tuple[Trained, float]], measure: str) -> tuple[Ranking | None, str | None]:
    """Variants by the mean of a measure over their seeds (`rank_seeds`), where one of them is there several times.

    Two checkpoints of one run, or models of two texts, are not seeds of one another: then there is no ranking, and the
    second value says why.
    """
    values: dict[str, list[float]] = {}
    for one, value in measured:
        values.setdefault(one.variant, []).append(value)
    if len(values) < 2 or all(len(found) < 2 for found in values.values()):
        return None, None
    difference = _difference([one for one, _ in measured])
    return (None, f"not ranked over seeds: {difference}") if difference else (rank_seeds(values, measure), None)


def _difference(trained: Sequence[Trained]) -> str | None:
    """What, other than seed and variant, tells models apart; None where nothing does."""
    first = trained[0]
    seeds: set[tuple[str, int]] = set()
    models: dict[str, Mapping[str, Scalar]] = {}
    for one in trained:
        if one.data != first.data:
            return f"{first.name} and {one.name} were trained on different text or with different tokenizers"
        if one.step != first.step:
            return f"{first.name} is at step {first.step}, and {one.name} at step {one.step}"
        if (one.variant, one.seed) in seeds:
            return f"{one.variant} is there twice with seed {one.seed}"
        if one.training != first.training:
            return f"{first.name} and {one.name} differ in {_fields(one.training, first.training)}"
        model = models.setdefault(one.variant, one.model)
        if one.model != model:
            return f"models of {one.variant} differ in {_fields(one.model, model)}"
        seeds.add((one.variant, one.seed))
    return None


def _fields(one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> str:
    return ", ".join(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))
