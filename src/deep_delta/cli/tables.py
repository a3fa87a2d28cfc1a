"""The tables that several commands show: who is better, and what the gates learned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from rich.text import Text

from deep_delta.cli.console import Cell, count, out, show_table
from deep_delta.runs.comparison import Accuracy, Evaluation, Ranking, Standing, TrainedVariant, TrainingComparison

_MOST_PAIRS = 15  # that are named; all pairs of six variants
_LAYER = 12  # the width of the first column of gates, for layers up to 999
Spectra = Sequence[Mapping[str, Any]]


def show_training(ranking: Ranking, comparisons: Sequence[TrainingComparison]) -> None:
    """Variants in the order of their best validation loss, each against the baseline; one comparison per seed."""
    runs: dict[str, list[TrainedVariant]] = {}
    for comparison in comparisons:
        for run in comparison.runs:
            runs.setdefault(run.variant, []).append(run)
    ranked = {standing.variant: standing for standing in ranking.standings}
    rows: list[list[Cell]] = []
    for variant in [*ranked, *(variant for variant in runs if variant not in ranked)]:
        mine = runs[variant]
        if variant in ranked:
            losses, against = _with_margin(ranked[variant], 3), _against("baseline", ranked, variant)
        else:
            losses, against = "–", Text(mine[0].problem or mine[0].status, "yellow")
        bits = [found for run in mine if (found := _bits_per_byte(run)) is not None]
        mean_bits = f"{math.fsum(bits) / len(bits):.3f}" if bits else "–"
        rows.append([variant, count(mine[0].parameters), losses, mean_bits, against])
    columns = ["<variant", "parameters", "loss", "bits/byte", "<against baseline"]
    if any(one.accuracies for mine in runs.values() for run in mine for one in run.evaluations):
        del columns[3]  # a task has no bytes
        rows = [[*row[:3], row[4]] for row in rows]
    show_table("Best validation loss, best first", columns, rows, _over_seeds(ranking))


def show_seeds(ranking: Ranking | None, problem: str | None) -> None:
    """Variants ranked over their seeds, or why they are not; nothing where there is one model of each."""
    if ranking is not None:
        ranked = {standing.variant: standing for standing in ranking.standings}
        rows: list[list[Cell]] = [
            [name, str(len(one.values)), _with_margin(one, 4), _against("baseline", ranked, name)]
            for name, one in ranked.items()
        ]
        columns = ["<variant", "seeds", "mean", "<against baseline"]
        show_table(f"Over seeds: {ranking.measure}, best first", columns, rows, _over_seeds(ranking))
    elif problem is not None:
        out.print(Text(f"{problem}\n", "yellow"), soft_wrap=True)


def _over_seeds(ranking: Ranking) -> str:
    """What is not told apart, and what ± means where it is shown."""
    with_margin = any(standing.margin is not None for standing in ranking.standings)
    margin = "\n± is the 95% interval of a mean over seeds" if with_margin else ""
    return f"{unresolved(ranking)}{margin}"


def show_accuracies(found: Mapping[str, Sequence[Accuracy]], chance: float) -> None:
    """Shares of right answers at each length, three rows a model; none without answers."""
    names = [one.lengths for one in max(found.values(), key=len, default=())]
    rows = []
    for name, accuracies in found.items():
        shares = {
            "all answers": [one.overall for one in accuracies],
            "last answer": [one.last for one in accuracies],
            "exact": [one.exact for one in accuracies],
        }
        for share, values in shares.items():
            missing = ["–"] * (len(names) - len(values))
            rows.append(
                [name if share == "all answers" else "", share, *(f"{value:.3f}" for value in values), *missing]
            )
    if names:
        note = f"exact: sequences with no wrong answer; of the answers, a guess gets {chance:.2g} right"
        show_table("Right answers by length", ["<model", "<share of", *names], rows, note)


def last_accuracies(runs: Sequence[TrainedVariant]) -> dict[str, Sequence[Accuracy]]:
    """The last accuracies of each variant that was evaluated."""
    return {run.variant: run.evaluations[-1].accuracies for run in runs if run.evaluations}


def unresolved(ranking: Ranking) -> str:
    """What the data do not tell apart, and by which rule."""
    order = [standing.variant for standing in ranking.standings]
    pairs = {frozenset((one.variant, other)) for one in ranking.standings for other in one.not_resolved_from}
    kept = [f"{one} ~ {other}" for one, other in combinations(order, 2) if frozenset((one, other)) in pairs]
    if len(order) < 2 or not kept or ranking.rule.startswith("not resolved"):
        return ranking.rule
    pairs_in_all = math.comb(len(order), 2)
    if len(kept) == pairs_in_all:
        said = "no pair is resolved"
    elif len(kept) > _MOST_PAIRS:
        said = f"not resolved: {len(kept)} of {pairs_in_all} pairs"
    else:
        said = f"not resolved: {', '.join(kept)}"
    return f"{said}\n{ranking.rule}"


def show_gates(spectra: Mapping[str, Spectra]) -> None:
    """Mean and spread of β after every sublayer, a column per model, as many in a table as fit; none without gates."""
    gated = {name: found for name, found in spectra.items() if found}
    fitting: dict[str, Spectra] = {}
    for name, found in gated.items():
        if fitting and _LAYER + sum(_column(each) for each in [*fitting, name]) > out.width:
            _show_gates(fitting)
            fitting = {}
        fitting[name] = found
    if fitting:
        _show_gates(fitting)


def _column(name: str) -> int:
    """How wide the column of a model is: its name or `0.12±0.34`, and the space between."""
    return max(len(name), 9) + 3


def _show_gates(spectra: Mapping[str, Spectra]) -> None:
    names = [f"{one['layer']} {one['sublayer']}" for one in max(spectra.values(), key=len)]
    rows = [
        [name, *(_gate(found[index]) if index < len(found) else "" for found in spectra.values())]
        for index, name in enumerate(names)
    ]
    note = "mean ± spread over tokens; 0 leaves the state as it is, 1 overwrites what it reads along k, 2 reflects it"
    show_table("Gates β after each sublayer", ["<layer", *spectra], rows, note)


def last_spectra(runs: Sequence[TrainedVariant]) -> dict[str, Spectra]:
    """The last spectra of each variant; where several seeds trained it, the mean of their gates."""
    return mean_gates([(run.variant, run.evaluations[-1].spectra) for run in runs if run.evaluations])


def mean_gates(found: Iterable[tuple[str, Spectra]]) -> dict[str, Spectra]:
    """Gates by variant, averaged over seeds."""
    variants: dict[str, list[Spectra]] = {}
    for variant, spectra in found:
        variants.setdefault(variant, []).append(spectra)
    return {variant: [_mean_gate(same) for same in zip(*seeds, strict=True)] for variant, seeds in variants.items()}


def _mean_gate(spectra: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One sublayer's gate, averaged over seeds."""
    means = {name: math.fsum(one[name] for one in spectra) / len(spectra) for name in ("beta_mean", "beta_std")}
    return {"layer": spectra[0]["layer"], "sublayer": spectra[0]["sublayer"], **means}


def _gate(spectrum: Mapping[str, Any]) -> str:
    return f"{spectrum['beta_mean']:.2f}±{spectrum['beta_std']:.2f}"


def _bits_per_byte(run: TrainedVariant) -> float | None:
    found: list[Evaluation] = [one for one in run.evaluations if one.step == run.best_step]
    return found[0].bits_per_byte if found else None


def _with_margin(standing: Standing, digits: int) -> str:
    """The mean, ± what is unsure of it where there are several seeds."""
    mean = f"{standing.mean:.{digits}f}"
    return mean if standing.margin is None else f"{mean} ± {standing.margin:.{digits}f}"


def _against(reference: str, ranked: Mapping[str, Standing], variant: str) -> Text:
    """The difference from the reference, and whether it means anything."""
    if variant == reference or reference not in ranked:
        return Text("")
    difference = ranked[variant].mean - ranked[reference].mean
    if reference in ranked[variant].not_resolved_from:
        return Text(f"{difference:+.3f} not resolved", "dim")
    verdict, style = ("better", "green") if difference < 0 else ("worse", "red")
    return Text(f"{difference:+.3f} {verdict}", style)
