"""The tables of `ddl eval`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from deep_delta.cli.console import Cell, out, show_fitting
from deep_delta.runs.suites import SuiteComparison, SuiteResults, SuiteRow

_SPLITS = {
    "seen": "new sentences of known words and templates",
    "new_words": "held-out words in known templates",
    "new_templates": "known words in held-out templates",
}
_COUNTS = (("1-gram", "unigram"), ("2-gram", "bigram"), ("5-gram", "fivegram"))


def show_suites(results: SuiteResults) -> None:
    """Each model's scores, phenomena first and pooled rows last; then who is better where that can be said."""
    for name in dict.fromkeys(row.model for row in results.rows):
        mine = [row for row in results.rows if row.model == name]
        _show_language(name, [row for row in mine if row.suite == "language"])
        _show_logic(name, [row for row in mine if row.suite == "logic"])
    _show_comparisons(results.comparisons, results.rule)
    if results.ranking is not None:
        rows = [
            [str(one.rank), one.variant, f"{one.mean:.4f}", ", ".join(one.not_resolved_from)]
            for one in results.ranking.standings
        ]
        show_fitting(
            "Seeds together, wrong answers",
            ["rank", "<variant", "share", "<not resolved from"],
            rows,
            results.ranking.rule,
        )
    if results.unranked is not None:
        out.print(Text(results.unranked, "dim"))
        out.print()
    if results.harness:
        harness: list[list[Cell]] = [
            [
                one.model,
                one.task,
                one.metric,
                f"{one.value:.4f}",
                "–" if one.error is None else f"{one.error:.4f}",
                str(one.samples),
            ]
            for one in results.harness
        ]
        show_fitting("lm-evaluation-harness", ["<model", "<task", "<measure", "value", "± error", "samples"], harness)


def _show_language(name: str, rows: Sequence[SuiteRow]) -> None:
    if not rows:
        return
    for split, what in _SPLITS.items():
        shown: list[list[Cell]] = []
        for row in rows:
            if row.split == split:
                label = f"all of {row.family}" if row.phenomenon == "all" and row.family != "all" else row.phenomenon
                counts = [_share(getattr(row, field)) for _, field in _COUNTS]
                shown.append([label, _score(row), _interval(row), _share(row.both_right), *counts, str(row.count)])
        columns = ["<asked about", "right", "95%", "both", *(title for title, _ in _COUNTS), "pairs"]
        show_fitting(f"{name}: {what}", columns, shown, _note(rows, split))


def _note(rows: Sequence[SuiteRow], split: str) -> str:
    mine = [row for row in rows if row.split == split]
    (pooled,) = [row for row in mine if row.family == "all"]
    said = ["chance is 50%, and the majority's answer too, since critical words are crossed; of both of a group, 25%"]
    if pooled.ties:
        said.append(f"ties, which count one half: {pooled.ties:.1%}")
    if pooled.skipped:
        said.append(f"{pooled.skipped:,} pairs are left out: one of the group is not of equal token count, or too long")
    if pooled.reason:
        said.append(f"no n-grams: {pooled.reason}")
    return "\n".join(said)


def _show_logic(name: str, rows: Sequence[SuiteRow]) -> None:
    """A table for each task."""
    for task in dict.fromkeys(row.phenomenon for row in rows):
        mine = [row for row in rows if row.phenomenon == task]
        shown: list[list[Cell]] = []
        for row in mine:
            counts = [_share(getattr(row, field)) for _, field in _COUNTS]
            exact, majority = _share(row.exact), _share(row.majority)
            shown.append([row.split, _score(row), _interval(row), exact, majority, *counts, str(row.count)])
        columns = ["<length", "right", "95%", "exact", "majority", *(title for title, _ in _COUNTS), "answers"]
        note = f"{task}\nof the answers, a guess gets {mine[0].chance:.1%} right; exact: whole sequences"
        show_fitting(f"{name}: {mine[0].family}", columns, shown, note)


def _show_comparisons(found: Sequence[SuiteComparison], rule: str) -> None:
    if not found:
        return
    rows: list[list[Cell]] = []
    for one in found:
        verdict = Text("resolved", "green") if one.resolved else Text("not resolved", "dim")
        family = "all together" if one.family == "all" else one.family
        who = f"{one.models[0]} − {one.models[1]}"
        rows.append([family, who, f"{100 * one.difference:+.1f}", str(one.clusters), f"{one.adjusted:.3f}", verdict])
    show_fitting("On the same questions", ["<family", "<models", "points", "differ", "p", "<verdict"], rows, rule)


def _score(row: SuiteRow) -> Text:
    """Bold where the interval is above chance."""
    if row.score is None:
        return Text("–")
    above = row.low is not None and row.low > max(row.chance, row.majority or 0)
    return Text(f"{100 * row.score:.1f}%", "bold" if above else "")


def _interval(row: SuiteRow) -> str:
    return "–" if row.low is None or row.high is None else f"{100 * row.low:.0f}–{100 * row.high:.0f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
