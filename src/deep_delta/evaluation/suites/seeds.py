"""Seeds as a level of their own: variants are ranked by their wrong answers where models differ in their seed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deep_delta.evaluation.ranking import rank_seeds
from deep_delta.evaluation.suites.examinee import Examinee
from deep_delta.runs.comparison import Ranking
from deep_delta.runs.manifest import Scalar
from deep_delta.runs.suites import SuiteRow

WRONG = "wrong answers, all families together"


def rank_variants(examinees: Sequence[Examinee], rows: Sequence[SuiteRow]) -> tuple[Ranking | None, str | None]:
    """Variants by the share of wrong answers in the linguistic suite, where one of them is there several times.

    Two checkpoints of one run, or models of two texts, are not seeds of one another: then there is no ranking, and the
    second value says why.
    """
    wrong: dict[str, list[float]] = {}
    asked = []
    for examinee in examinees:
        mine = [row for row in rows if row.model == examinee.name and row.score is not None and row.suite == "language"]
        pooled = [row for row in mine if row.family == "all"]
        count = sum(row.count for row in pooled)
        if count:
            right = sum((row.score or 0) * row.count for row in pooled)
            wrong.setdefault(examinee.about.variant, []).append(1 - right / count)
            asked.append(examinee)
    if len(wrong) < 2 or all(len(values) < 2 for values in wrong.values()):
        return None, None
    difference = _difference(asked)
    return (None, f"not ranked over seeds: {difference}") if difference else (rank_seeds(wrong, WRONG), None)


def _difference(examinees: Sequence[Examinee]) -> str | None:
    """What, other than seed and variant, tells models apart; None where nothing does."""
    first = examinees[0]
    seeds: set[tuple[str, int]] = set()
    models: dict[str, Mapping[str, Scalar]] = {}
    for one in examinees:
        about = one.about
        if about.data != first.about.data:
            return f"{first.name} and {one.name} were trained on different text or with different tokenizers"
        if about.step != first.about.step:
            return f"{first.name} is at step {first.about.step}, and {one.name} at step {about.step}"
        if (about.variant, about.seed) in seeds:
            return f"{about.variant} is there twice with seed {about.seed}"
        if one.training != first.training:
            return f"{first.name} and {one.name} differ in {_fields(one.training, first.training)}"
        model = models.setdefault(about.variant, one.model)
        if one.model != model:
            return f"models of {about.variant} differ in {_fields(one.model, model)}"
        seeds.add((about.variant, about.seed))
    return None


def _fields(one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> str:
    return ", ".join(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))
