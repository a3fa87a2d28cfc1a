"""Which models are compared, and whether they differ on the same questions."""

# N questions

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from deep_delta.evaluation.statistics import clustered_mcnemar, holm
from deep_delta.runs.suites import ScoredModel, SuiteComparison

SIGNIFICANT = 0.05
RULE = (
    "resolved where p < 0.05 by an exact McNemar test that exchanges whole templates (of tasks, whole sequences), "
    "so never with fewer than 6 that differ; corrected for all families and pairs of models (Holm); other seeds of a "
    "variant may rank otherwise"
)


class Asked(NamedTuple):
    """The same questions, put to some models."""

    family: str
    answers: Mapping[str, np.ndarray]
    """by model: 1 right, 0 wrong, 0.5 a tie, float64 [N]"""
    clusters: np.ndarray
    """[N]: questions that are not independent have the same number"""


def compared(models: Sequence[ScoredModel]) -> list[tuple[str, str]]:
    """Which two models are compared: different variants of the same seed; every two where there are none such."""
    pairs = list(combinations(models, 2))
    alike = [(one, other) for one, other in pairs if one.variant != other.variant and one.seed == other.seed]
    return [(one.name, other.name) for one, other in alike or pairs]


def compare_answers(asked: Sequence[Asked], pairs: Sequence[tuple[str, str]]) -> list[SuiteComparison]:
    """These pairs of models wherever both have answered, with Holm's correction over all of it."""
    found = []
    for one, other in pairs:
        for family, answers, clusters in asked:
            if one in answers and other in answers:
                p, differing = clustered_mcnemar(answers[one], answers[other], clusters)
                difference = float(answers[one].mean() - answers[other].mean())
                found.append((family, (one, other), difference, differing, p))
    adjusted = holm([p for *_, p in found])
    return [
        SuiteComparison(
            family=family,
            models=models,
            difference=difference,
            clusters=differing,
            p=p,
            adjusted=corrected,
            resolved=corrected < SIGNIFICANT,
        )
        for (family, models, difference, differing, p), corrected in zip(found, adjusted, strict=True)
    ]
