"""View 3: variants side by side: the ranking with what is not resolved, each seed, and what a variant costs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from rich.style import Style

from deep_delta.explore import Experiment, Variant
from deep_delta.runs.comparison import Standing
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.columns import Cell, Column, Spans, table_lines
from deep_delta.tui.drawing.marks import LEAST_WIDTH
from deep_delta.tui.drawing.numbers import count, duration, number
from deep_delta.tui.drawing.palette import Palette, mark
from deep_delta.tui.session import Session, status_of
from deep_delta.tui.views.costs import draw_costs
from deep_delta.tui.views.panel import Plot, draw_lines, say_empty
from deep_delta.tui.views.results import result_lines

_RANKING = (
    Column("#"),
    Column("variant", is_text=True),
    Column("best loss"),
    Column("±", rank=3),
    Column("each seed", rank=6, is_text=True),
    Column("− base", rank=1),
    Column("", rank=2, is_text=True),
    Column("parameters", rank=4),
    Column("FLOPs/token", rank=7),
    Column("time", rank=5),
    Column("tokens/s", rank=8),
)
_SEEDS = (
    Column("variant", is_text=True),
    Column("seed"),
    Column("best loss"),
    Column("at step", rank=2),
    Column("status", is_text=True, rank=1),
    Column("time", rank=3),
    Column("tokens/s", rank=4),
)
_STRIP = 15  # cells


def draw_comparison(canvas: Canvas, rect: Rect, session: Session, palette: Palette) -> list[Plot]:
    lines = comparison_lines(session, rect.width - 2, palette)
    if not lines:
        reason = "no variant matches the filter" if session.filter else "no run is open"
        say_empty(canvas, rect, [reason, "/ changes the filter" if session.filter else "ddl tui RUN"], palette)
        return []
    session.scroll["comparison"] = draw_lines(
        canvas, rect.inset(left=1), lines, session.scroll.get("comparison", 0), palette
    )
    rest = rect.inset(left=1, top=len(lines) + 1, right=1)
    if rest.height >= 9 and rest.width >= 2 * LEAST_WIDTH:
        draw_costs(canvas, rest, session, palette)
    return []


def comparison_lines(session: Session, width: int, palette: Palette) -> list[Spans]:
    """Everything of the view, a section an experiment."""
    listed = {variant.label for variant in session.listed()}
    lines: list[Spans] = []
    for experiment in session.exploration.experiments:
        variants = [variant for variant in experiment.variants if variant.label in listed]
        if variants:
            lines += [[]] if lines else []
            lines += _experiment_lines(experiment, variants, session, width, palette)
    results = result_lines(session, width, palette)
    return lines + (results if lines else results[1:])


def _experiment_lines(
    experiment: Experiment, variants: Sequence[Variant], session: Session, width: int, palette: Palette
) -> list[Spans]:
    standings = {one.variant: one for one in experiment.ranking.standings} if experiment.ranking else {}
    by_slug = {variant.slug: variant for variant in variants}
    order = [by_slug[slug] for slug in standings if slug in by_slug]
    order += [variant for variant in variants if variant.slug not in standings]
    measure = experiment.ranking.measure if experiment.ranking and standings else "best validation loss"
    lines: list[Spans] = [[(experiment.name, palette.title), (f"  {measure}, best first", palette.dim)]]
    losses = [value for one in standings.values() for value in one.values] or _best_losses(order)
    rows = [_row(variant, standings, losses, palette) for variant in order]
    lines += table_lines(_RANKING, rows, width, palette.dim, _chosen(order, session, palette))
    for sentence in _rule(experiment, [variant.slug for variant in order]):
        lines += [[(part, palette.dim)] for part in textwrap.wrap(sentence, max(20, width))]
    seeds = [(variant, index) for variant in order for index in range(len(variant.traces))]
    lines += [[], [("Each seed", palette.title)]]
    lines += table_lines(
        _SEEDS, [_seed_row(variant, index, palette) for variant, index in seeds], width, palette.dim, None
    )
    return lines


def _chosen(order: Sequence[Variant], session: Session, palette: Palette) -> tuple[int, Style] | None:
    chosen = session.chosen_variant()
    labels = [variant.label for variant in order]
    return None if chosen is None or chosen.label not in labels else (labels.index(chosen.label), palette.chosen)


def _row(variant: Variant, standings: dict[str, Standing], losses: Sequence[float], palette: Palette) -> list[Cell]:
    standing, baseline = standings.get(variant.slug), standings.get("baseline")
    first, color = variant.traces[0], palette.line(variant.number)
    values = list(standing.values) if standing else _best_losses([variant])
    against, verdict = _against(standing, baseline, palette)
    if standing is None:
        status = status_of(variant.traces)
        verdict = Cell(status.text, palette.bad if status.kind == "failed" else palette.warning)
    seconds = [trace.seconds for trace in variant.traces if trace.seconds]
    rates = [rate for trace in variant.traces if (rate := trace.tokens_per_second) is not None]
    return [
        Cell(str(standing.rank) if standing else "–", palette.dim),
        Cell("", parts=((f"{mark(variant.number)} ", color), (variant.slug, palette.text))),
        Cell(f"{math.fsum(values) / len(values):.4f}" if values else "–", palette.text),
        Cell(f"{(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else "", palette.dim),
        Cell(strip(values, losses, mark(variant.number)), color),
        against,
        verdict,
        Cell("" if first.parameters is None else count(first.parameters), palette.text),
        Cell("" if first.flops_per_token is None else count(first.flops_per_token), palette.text),
        Cell(duration(math.fsum(seconds) / len(seconds)) if seconds else "", palette.text),
        Cell(count(math.fsum(rates) / len(rates)) if rates else "", palette.text),
    ]


def _against(standing: Standing | None, baseline: Standing | None, palette: Palette) -> tuple[Cell, Cell]:
    """The difference from the baseline, and whether it means anything."""
    if standing is None or baseline is None or standing.variant == baseline.variant:
        return Cell(""), Cell("")
    difference = standing.mean - baseline.mean
    if "baseline" in standing.not_resolved_from:
        return Cell(f"{difference:+.4f}", palette.dim), Cell("not resolved", palette.dim)
    style = palette.good if difference < 0 else palette.bad
    return Cell(f"{difference:+.4f}", style), Cell("better" if difference < 0 else "worse", style)


def strip(values: Sequence[float], everyone: Sequence[float], sign: str) -> str:
    """Every seed's value as a mark on one axis that all variants share."""
    finite = [value for value in everyone if math.isfinite(value)]
    if not finite or not values:
        return ""
    low, high = min(finite), max(finite)
    cells = ["·"] * _STRIP
    for value in values:
        place = (value - low) / (high - low) if high > low else 0.5
        cells[round(place * (_STRIP - 1))] = sign
    return "".join(cells)


def _seed_row(variant: Variant, index: int, palette: Palette) -> list[Cell]:
    trace = variant.traces[index]
    status = trace.status
    style = {"failed": palette.bad, "silent": palette.warning, "running": palette.good}.get(status.kind, palette.dim)
    rate = trace.tokens_per_second
    return [
        Cell("", parts=((f"{mark(variant.number)} ", palette.line(variant.number)), (trace.slug, palette.text))),
        Cell("–" if trace.seed is None else str(trace.seed), palette.text),
        Cell(number(trace.best_loss, 5), palette.text),
        Cell("" if trace.best_step is None else f"{trace.best_step:,}", palette.dim),
        Cell(status.text, style),
        Cell(duration(trace.seconds) if trace.seconds else "", palette.dim),
        Cell("" if rate is None else count(rate), palette.dim),
    ]


def _best_losses(variants: Sequence[Variant]) -> list[float]:
    return [trace.best_loss for variant in variants for trace in variant.traces if trace.best_loss is not None]


def _rule(experiment: Experiment, listed: Sequence[str]) -> list[str]:
    """Which pairs are not told apart, and by which rule; or why nothing is ranked."""
    ranking = experiment.ranking
    if ranking is None:
        return [experiment.reason or "no ranking"]
    pairs = {frozenset((one.variant, other)): None for one in ranking.standings for other in one.not_resolved_from}
    kept = [" ~ ".join(sorted(pair, key=listed.index)) for pair in pairs if pair <= set(listed)]
    if not kept or ranking.rule.startswith("not resolved"):
        return [ranking.rule]
    return [f"not resolved: {', '.join(kept)}", ranking.rule]
