"""Variants against each other and against what they cost: one point for each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deep_delta.explore import Experiment, Trace
from deep_delta.report.chart import HEIGHT, HIDDEN, NOT_HIDDEN, WIDTH, Chart, Column, by_variant, rounded
from deep_delta.report.curves import curve_chart
from deep_delta.report.html import visible
from deep_delta.report.style import Style

_BEST = "best validation loss (nats)"
_COSTS: Mapping[str, tuple[str, str, Callable[[Trace], float | None]]] = {
    "parameters": ("parameters", ".3~s", lambda trace: trace.parameters),
    "flops": (
        "FLOPs of training",
        ".3~s",
        lambda trace: trace.flops_per_token * trace.tokens if trace.flops_per_token else None,
    ),
    "seconds": ("seconds of training", ".3~s", lambda trace: trace.seconds or None),
}


def ranking_chart(experiment: Experiment, looks: Mapping[str, Style]) -> Chart | None:
    """The best validation loss of every seed, best variant first; None where nothing was evaluated."""
    rows = [(variant.slug, trace.seed, trace.best_loss) for variant in experiment.variants for trace in variant.traces]
    rows = [row for row in rows if row[2] is not None]
    if not rows:
        return None
    means: dict[str, list[float]] = {}
    for slug, _, loss in rows:
        means.setdefault(slug, []).append(loss or 0.0)
    order = sorted(means, key=lambda slug: sum(means[slug]) / len(means[slug]))
    columns: dict[str, Column] = {
        "v": [visible(slug) for slug, _, _ in rows],
        "d": [str(seed) if seed is not None else "–" for _, seed, _ in rows],
        "m": rounded([loss or 0.0 for _, _, loss in rows]),
    }
    y = {"field": "v", "type": "nominal", "sort": [visible(slug) for slug in order], "title": None,
         "axis": {"grid": True, "labelLimit": 160}}  # fmt: skip
    x = {"field": "m", "type": "quantitative", "title": _BEST, "scale": {"zero": False, "padding": 12}}
    spec = {
        "width": WIDTH, "height": max(min(HEIGHT, 60 * len(order)), 26 * len(order)),
        "params": [HIDDEN], "transform": [NOT_HIDDEN],
        "layer": [
            {"mark": {"type": "tick", "thickness": 2, "size": 18},
             "encoding": {"y": y, "x": {**x, "aggregate": "mean"}, **by_variant(looks)}},
            {"mark": {"type": "point", "size": 70, "fillOpacity": 0.75},
             "encoding": {"y": y, "x": x, **by_variant(looks, "shape"), "tooltip": _tooltip(_BEST)}},
        ],
    }  # fmt: skip
    return Chart("ranking", "Best validation loss", "a point for each seed, a stroke at their mean", spec, columns)


def cost_charts(experiment: Experiment, looks: Mapping[str, Style], points: int) -> Iterator[Chart]:
    """The best loss against parameters, FLOPs and time; and the validation loss over FLOPs and time."""
    for name, (title, form, cost) in _COSTS.items():
        found = [
            (variant.slug, trace.seed, spent, trace.best_loss)
            for variant in experiment.variants
            for trace in variant.traces
            if (spent := cost(trace)) and trace.best_loss is not None
        ]
        if found:
            columns: dict[str, Column] = {
                "v": [visible(slug) for slug, _, _, _ in found],
                "d": [str(seed) if seed is not None else "–" for _, seed, _, _ in found],
                "x": rounded([spent for _, _, spent, _ in found], 7),
                "m": rounded([loss for _, _, _, loss in found]),
            }
            yield Chart(f"cost-{name}", f"Loss against {title}", "a point for each seed", _scatter(looks, title, form),
                        columns)  # fmt: skip
    for axis in ("flops", "seconds"):
        chart = curve_chart(experiment, looks, "validation", axis, points)
        if chart is not None:
            yield chart


def _scatter(looks: Mapping[str, Style], title: str, form: str) -> dict[str, Any]:
    return {
        "width": WIDTH, "height": HEIGHT, "params": [HIDDEN], "transform": [NOT_HIDDEN],
        "mark": {"type": "point", "size": 90, "fillOpacity": 0.75},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": title, "axis": {"format": form, "tickCount": 5},
                  "scale": {"zero": False, "padding": 14}},
            "y": {"field": "m", "type": "quantitative", "title": _BEST, "scale": {"zero": False, "padding": 14}},
            **by_variant(looks, "shape"),
            "tooltip": _tooltip(_BEST, {"field": "x", "type": "quantitative", "title": title, "format": ",.4~g"}),
        },
    }  # fmt: skip


def _tooltip(best: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"field": "v", "type": "nominal", "title": "variant"},
        {"field": "d", "type": "nominal", "title": "seed"},
        *more,
        {"field": "m", "type": "quantitative", "title": best, "format": ".5~g"},
    ]
