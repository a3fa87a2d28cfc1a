"""Tables that a terminal and a page both show, and that CSV holds: a name, columns, rows of plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from deep_delta.benchmarks.gate import Verdict, judge
from deep_delta.errors import ConfigError, DataError
from deep_delta.explore.exploration import Experiment, Variant
from deep_delta.explore.trace import SPECTRUM, Spectra
from deep_delta.runs.benchmark import Benchmark
from deep_delta.runs.inspection import CHANGES, Inspection
from deep_delta.runs.suites import SuiteResults
from deep_delta.spectral.regimes import REGIMES

Value = str | int | float | None
TOLERANCE = 0.15


class Table(NamedTuple):
    """Rows of plain values: None where there is none."""

    name: str
    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]
    note: str = ""


def ranking_table(experiment: Experiment) -> Table:
    """Variants in the order of their best validation loss, each seed by itself too, and what is not resolved."""
    ranking = experiment.ranking
    found = {standing.variant: standing for standing in ranking.standings} if ranking else {}
    variants = {variant.slug: variant for variant in experiment.variants}
    baseline = found.get("baseline")
    rows: list[tuple[Value, ...]] = []
    for slug in [*found, *(slug for slug in variants if slug not in found)]:
        if slug not in variants:
            continue
        variant, standing = variants[slug], found.get(slug)
        best = {trace.seed: trace.best_loss for trace in variant.traces}
        against: float | None = None
        verdict = ""
        if standing and baseline and slug != "baseline":
            against = standing.mean - baseline.mean
            verdict = "better" if against < 0 else "worse"
            if "baseline" in standing.not_resolved_from:
                verdict = "not resolved"
        rows.append(
            (
                standing.rank if standing else None,
                slug,
                standing.mean if standing else None,
                (max(standing.values) - min(standing.values)) / 2 if standing and len(standing.values) > 1 else None,
                ", ".join(f"{seed}: {_short(loss)}" for seed, loss in best.items()),
                against,
                verdict if standing else "; ".join(_ended(variant)),
                ", ".join(standing.not_resolved_from) if standing else "",
            )
        )
    columns = (
        "rank",
        "variant",
        "best loss",
        "± half range",
        "each seed",
        "− baseline",
        "verdict",
        "not resolved from",
    )
    return Table("Ranking", columns, rows, ranking.rule if ranking else experiment.reason or "")


def cost_table(experiment: Experiment) -> Table:
    """What each variant costs: parameters, FLOPs, training time; against what it reached."""
    rows: list[tuple[Value, ...]] = []
    for variant in experiment.variants:
        first = variant.traces[0]
        losses = [trace.best_loss for trace in variant.traces if trace.best_loss is not None]
        seconds = [trace.seconds for trace in variant.traces if trace.seconds]
        rates = [trace.tokens_per_second for trace in variant.traces if trace.tokens_per_second]
        flops = first.flops_per_token
        rows.append(
            (
                variant.slug,
                len(variant.traces),
                first.parameters,
                flops,
                flops * first.tokens if flops else None,
                _mean(seconds),
                _mean(rates),
                _mean(losses),
            )
        )
    columns = (
        "variant", "seeds", "parameters", "FLOPs a token", "FLOPs of training", "seconds of training", "tokens/s",
        "best loss",
    )  # fmt: skip
    return Table("Cost", columns, rows, "mean over seeds; FLOPs are counted, of forward and backward")


def seeds_table(experiment: Experiment) -> Table:
    """One row for each variant and seed: how it stands."""
    rows: list[tuple[Value, ...]] = [
        (trace.slug, trace.seed, trace.status.text, trace.step, trace.best_loss, trace.best_step, trace.seconds)
        for variant in experiment.variants
        for trace in variant.traces
    ]
    columns = ("variant", "seed", "status", "step", "best loss", "at step", "seconds of training")
    return Table("Seeds", columns, rows)


def spectra_table(spectra: Spectra, index: int = -1) -> Table:
    """What the gates did at one evaluation, a row a sublayer."""
    fields = [name for name in SPECTRUM if not name.startswith("beta_q")]
    rows: list[tuple[Value, ...]] = []
    for place, label in enumerate(spectra.labels):
        values = [_or_none(spectra.values[name][index, place]) for name in fields]
        rows.append((label, *values, *(_or_none(share) for share in spectra.shares[index, place])))
    return Table(f"Gates after step {spectra.steps[index]:.0f}", ("layer", *fields, *REGIMES), rows)


def benchmark_table(benchmark: Benchmark, verdict: Verdict | None = None) -> Table:
    """Rows with their spread, and against a saved benchmark what the gate says of each."""
    said: dict[str, list[str]] = {}
    if verdict is not None:
        for change in verdict.changes:
            word = "worse" if change.is_regression else "ok"
            said.setdefault(change.name, []).append(f"{change.kind} {change.growth:+.1%} {word}")
    rows: list[tuple[Value, ...]] = [
        (
            row.name, row.seconds.median, row.seconds.lower, row.seconds.upper, row.seconds.relative, row.relative_to,
            row.tokens_per_second, row.peak_bytes, row.saved_bytes, "loaded" if row.loaded else "",
            "; ".join(said.get(row.name, ())),
        )
        for row in benchmark.rows
    ]  # fmt: skip
    columns = (
        "row", "seconds", "lower quartile", "upper quartile", "÷ reference", "reference", "tokens/s", "peak bytes",
        "saved bytes", "load", "gate",
    )  # fmt: skip
    return Table("Benchmark", columns, rows, _gate_note(verdict))


def gate(now: Benchmark, before: Benchmark, tolerance: float = TOLERANCE) -> Verdict | str:
    """What `ddl benchmark --baseline` would say of the two; why not, where they have nothing in common."""
    try:
        return judge(now, before, tolerance=tolerance)
    except (ConfigError, DataError) as problem:
        return str(problem)


def _gate_note(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    if verdict.passes:
        return "the gate passes"
    regressions, missing = verdict.regressions, verdict.missing
    said = [f"{len(regressions)} worse, first {regressions[0].name}"] if regressions else []
    said += [f"{len(missing)} missing, first {next(iter(missing))}"] if missing else []
    return f"the gate fails: {'; '.join(said)}"


def suites_table(results: SuiteResults) -> Table:
    """Every score with its interval, and beside it what chance, a majority and word counts get."""
    rows: list[tuple[Value, ...]] = [
        (
            row.model, row.family, row.phenomenon, row.split, row.count, row.skipped, row.score, row.low, row.high,
            row.both_right, row.exact, row.ties, row.chance, row.majority, row.unigram, row.bigram, row.fivegram,
            row.reason,
        )
        for row in results.rows
    ]  # fmt: skip
    columns = (
        "model", "family", "question", "split", "count", "skipped", "score", "low", "high", "both right", "exact",
        "ties", "chance", "majority", "unigram", "bigram", "5-gram", "note",
    )  # fmt: skip
    return Table("Suites", columns, rows, "shares of right answers, with 95% Wilson intervals")


def suite_comparisons_table(results: SuiteResults) -> Table:
    """Every two models on the same questions."""
    rows: list[tuple[Value, ...]] = [
        (
            one.family,
            *one.models,
            one.difference,
            one.adjusted,
            one.clusters,
            "resolved" if one.resolved else "not resolved",
        )
        for one in results.comparisons
    ]
    columns = ("family", "model", "other", "difference", "p (Holm)", "templates", "verdict")
    return Table("Suites, compared", columns, rows, results.rule)


def harness_table(results: SuiteResults) -> Table:
    """Tasks of lm-evaluation-harness, with its own standard errors."""
    rows: list[tuple[Value, ...]] = [
        (one.model, one.task, one.metric, one.value, one.error, one.samples) for one in results.harness
    ]
    return Table("Tasks", ("model", "task", "measure", "value", "standard error", "samples"), rows)


def gates_table(inspection: Inspection) -> Table:
    """The gates of every sublayer, over all tokens and by token class and position."""
    rows: list[tuple[Value, ...]] = [
        (f"{row.layer} {row.sublayer}", row.group, row.name, row.tokens, row.beta_mean, row.beta_std, row.share_above_1)
        for row in inspection.gates
    ]
    return Table("Gates", ("layer", "group", "tokens of", "tokens", "mean β", "spread", "share of β > 1"), rows)


def interventions_table(inspection: Inspection) -> Table:
    """Each intervention with its change in loss, and beside it the controls without which it says nothing."""
    rows: list[tuple[Value, ...]] = []
    for row in inspection.interventions:
        one, effect = row.intervention, row.effect
        at = "all layers" if one.layer is None else f"{one.layer} {one.sublayer or 'both'}"
        controls = [
            control.effect.loss.mean if control else None
            for control in (row.random_direction, row.random_layer, row.untrained)
        ]
        whole = row.whole_sublayer.loss.mean if row.whole_sublayer else None
        right = effect.logit_difference.mean if effect.logit_difference else None
        loss = effect.loss
        rows.append(
            (CHANGES[one.what], at, loss.mean, loss.low, loss.high, effect.kl.mean, right, *controls, whole, row.size)
        )
    columns = (
        "change", "layer", "Δ loss", "low", "high", "KL", "Δ logit difference", "random direction", "random layer",
        "untrained", "whole sublayer", "size",
    )  # fmt: skip
    note = (
        "Δ loss in nats a token, with its 95% interval over documents; the controls change the state by as much. A "
        "patch of one direction can wake pathways that sleep in the model as it is: read it beside the whole sublayer's"
    )
    return Table("Interventions", columns, rows, note)


def ranks_table(inspection: Inspection) -> Table:
    """How many of the value channels differ, before, between and after the sublayers of each layer."""
    rows: list[tuple[Value, ...]] = [
        (f"{row.layer} {row.place}", row.participation, row.entropy, row.d_value) for row in inspection.ranks
    ]
    return Table("Effective rank of the value channels", ("place", "participation", "entropy", "of"), rows)


def directions_table(inspection: Inspection) -> Table:
    """Mean |cos| between the directions of two sublayers at the same token."""
    reuse = inspection.directions
    names = [f"{layer} {sublayer}" for layer, sublayer in reuse.sublayers] if reuse else []
    rows: list[tuple[Value, ...]] = (
        [(name, *cosines) for name, cosines in zip(names, reuse.cosines, strict=True)] if reuse else []
    )
    note = f"two random directions have {reuse.random:.3f}" if reuse else ""
    return Table("Reuse of directions", ("layer", *names), rows, note)


def differences(configurations: Mapping[str, Mapping[str, Any]]) -> Table:
    """Fields in which configurations, by name, differ; one that a configuration lacks is None."""
    names = dict.fromkeys(field for fields in configurations.values() for field in fields)
    rows: list[tuple[Value, ...]] = []
    for name in names:
        values = [_plain(fields.get(name)) for fields in configurations.values()]
        if any(value != values[0] for value in values):
            rows.append((name, *values))
    return Table("Differences", ("field", *configurations), rows)


def _ended(variant: Variant) -> Iterator[str]:
    return (trace.status.text for trace in variant.traces)


def _short(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(value: Any) -> Value:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
