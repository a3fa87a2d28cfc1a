"""Who is better, and where that cannot be said."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.comparison import Ranking, Standing, TrainedVariant, TrainingComparison

CONFIDENCE = 0.95
"""That none of the pairs which count as resolved is in truth equal, all pairs taken together."""

VALIDATION_LOSS = "best validation loss, nats per token"
ANSWER_LOSS = "best validation loss, nats per answer"
"""Of a task. Accuracies tie where all is right or all is a guess; the loss still tells those apart."""


def rank_runs(comparisons: Sequence[TrainingComparison]) -> Ranking:
    """Rank the finished variants of runs that differ in their seed only, by best validation loss (`rank_seeds`).

    Raises `DataError` where text or tokenizer differ, `ConfigError` where anything else does or a seed is repeated.
    """
    found: dict[str, list[TrainedVariant]] = {}
    for comparison in comparisons:
        _require_comparable(comparisons[0], comparison)
        for run in comparison.runs:
            if run.status == "finished" and run.best_loss is not None:
                found.setdefault(run.variant, []).append(run)
    for variant, runs in found.items():
        if len({run.seed for run in runs}) < len(runs):
            raise ConfigError(f"{variant} appears twice with seed {runs[0].seed}; give runs of different seeds")
        if any(run.model != runs[0].model for run in runs):
            raise ConfigError(f"{variant} is not the same model in all runs; give runs that differ in their seed only")
    is_task = any(one.accuracies for runs in found.values() for run in runs for one in run.evaluations)
    measure = ANSWER_LOSS if is_task else VALIDATION_LOSS
    if not found:
        return Ranking(measure=measure, rule="nothing finished that has a validation loss", standings=())
    losses = {variant: [run.best_loss for run in runs if run.best_loss is not None] for variant, runs in found.items()}
    return rank_seeds(losses, measure)


def _require_comparable(one: TrainingComparison, other: TrainingComparison) -> None:
    if (one.data.sha256, one.data.tokenizer_sha256) != (other.data.sha256, other.data.tokenizer_sha256):
        raise DataError(f"losses on {one.data.name} and {other.data.name} cannot be ranked: text or tokenizer differ")
    if one.data.layout != other.data.layout:
        raise DataError(
            f"losses on {one.data.name} in layouts {one.data.layout} and {other.data.layout} cannot be ranked: "
            "the sequences differ"
        )
    for field in one.training.keys() | other.training.keys():
        if field not in ("seed", "tracker", "max_time") and one.training.get(field) != other.training.get(field):
            raise ConfigError(f"runs trained with different {field} cannot be ranked together")


def rank_seeds(values: Mapping[str, Sequence[float]], measure: str) -> Ranking:
    """Rank variants by the mean of a measure over their seeds, lower being better.

    Two variants are resolved when their means differ by more than t · s · √(1/n₁ + 1/n₂), where s is the spread between
    seeds of one variant, pooled over all variants, and t the quantile of `student_quantile` at `CONFIDENCE`, which is
    divided over all pairs (Bonferroni). With one seed each there is no s, and nothing is resolved. A variant's `margin`
    is t · s / √n, t being that of a single mean.
    """
    means = {variant: math.fsum(found) / len(found) for variant, found in values.items()}
    freedom = sum(len(found) - 1 for found in values.values())
    if freedom < 1:
        rule = "not resolved: one seed each, and nothing separates a difference from the luck of a seed"
        return _ranking(measure, rule, values, means, lambda one, other: False)
    squares = math.fsum((value - means[variant]) ** 2 for variant, found in values.items() for value in found)
    spread = math.sqrt(squares / freedom)
    quantile = _quantile(len(values), freedom)

    def resolved(one: str, other: str) -> bool:
        error = spread * math.sqrt(1 / len(values[one]) + 1 / len(values[other]))
        return abs(means[one] - means[other]) > quantile * error

    rule = (
        f"resolved where means differ by more than {quantile:.2f} standard errors ({CONFIDENCE:.0%} over all pairs; "
        f"spread between seeds {spread:.2g}, {freedom} degrees of freedom)"
    )
    margin = student_quantile(CONFIDENCE, freedom) * spread
    margins = {variant: margin / math.sqrt(len(found)) for variant, found in values.items()}
    return _ranking(measure, rule, values, means, resolved, margins)


def rank_pieces(
    values: Mapping[str, Sequence[float]], weights: Sequence[float], measure: str, *, pieces: str = "pieces of text"
) -> Ranking:
    """Rank models by the weighted mean of a measure taken on the same pieces of text or examples, lower being better.

    Two are resolved when the weighted mean of their differences, piece by piece, is more than t standard errors from
    zero, t as in `rank_seeds`. That covers the choice of pieces only: other seeds of these models may rank otherwise.
    """
    total = math.fsum(weights)
    means = {
        name: math.fsum(value * weight for value, weight in zip(found, weights, strict=True)) / total
        for name, found in values.items()
    }
    groups = {name: [mean] for name, mean in means.items()}
    freedom = len(weights) - 1
    if freedom < 1:
        return _ranking(measure, f"not resolved: one of the {pieces}", groups, means, lambda one, other: False)
    quantile = _quantile(len(values), freedom)

    def resolved(one: str, other: str) -> bool:
        gap = means[one] - means[other]
        rest = [w * (a - b - gap) for a, b, w in zip(values[one], values[other], weights, strict=True)]
        error = math.sqrt(math.fsum(r * r for r in rest) * len(rest) / freedom) / total
        return abs(gap) > quantile * error

    rule = (
        f"resolved where the difference over {len(weights)} {pieces} exceeds {quantile:.2f} standard errors "
        f"({CONFIDENCE:.0%} over all pairs; the choice of {pieces}, not the seed)"
    )
    return _ranking(measure, rule, groups, means, resolved)


def student_quantile(confidence: float, freedom: int) -> float:
    """The t with P(|T| < t) = confidence, T having Student's distribution with `freedom` degrees of freedom.

    With t = √ν tan θ, P(|T| < t) is the integral of cos^(ν−1) from 0 to θ over that from 0 to π/2; bisected on θ.
    """
    low, high = 0.0, math.pi / 2
    target = confidence * _cosine_integral(high, freedom - 1)
    for _ in range(50):
        middle = (low + high) / 2
        if _cosine_integral(middle, freedom - 1) < target:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _cosine_integral(theta: float, power: int, intervals: int = 1000) -> float:
    """∫ cos^power from 0 to theta, by Simpson's rule."""
    height = theta / intervals
    inner = math.fsum(math.cos(i * height) ** power * (4 if i % 2 else 2) for i in range(1, intervals))
    return height / 3 * (1 + inner + math.cos(theta) ** power)


def _quantile(num_variants: int, freedom: int) -> float:
    pairs = max(1, math.comb(num_variants, 2))
    return student_quantile(1 - (1 - CONFIDENCE) / pairs, freedom)


def _ranking(
    measure: str,
    rule: str,
    values: Mapping[str, Sequence[float]],
    means: Mapping[str, float],
    resolved: Callable[[str, str], bool],
    margins: Mapping[str, float] | None = None,
) -> Ranking:
    unresolved: dict[str, list[str]] = {variant: [] for variant in means}
    for one, other in combinations(means, 2):
        if not resolved(one, other):
            unresolved[one].append(other)
            unresolved[other].append(one)
    standings = tuple(
        Standing(
            rank=rank,
            variant=variant,
            values=tuple(values[variant]),
            mean=means[variant],
            not_resolved_from=tuple(unresolved[variant]),
            margin=None if margins is None else margins[variant],
        )
        for rank, variant in enumerate(sorted(means, key=means.__getitem__), start=1)
    )
    return Ranking(measure=measure, rule=rule, standings=standings)
