"""What the gates did: a heat map of β over layers and steps, the regimes of each layer, and profiles by depth."""

# S evaluations, L sublayers

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from deep_delta.explore import Experiment, Spectra, Variant
from deep_delta.report.chart import HEIGHT, HIDDEN, NOT_HIDDEN, WIDTH, Chart, Column, by_variant, hover, rounded
from deep_delta.report.html import visible
from deep_delta.report.style import REGIME_COLOURS, Style
from deep_delta.spectral.regimes import REGIMES

_PROFILES: Mapping[str, tuple[str, str]] = {
    "beta_mean": ("mean gate β", "Gate by depth"),
    "alignment": ("mean |cos| with the direction before", "Alignment of successive directions by depth"),
    "shrinking": ("‖vᵀ − kᵀX‖ after ÷ before", "Discrepancy after the update by depth"),
}


def pooled(variant: Variant) -> tuple[Spectra, str] | None:
    """The mean over seeds where they were evaluated at the same steps, else one seed's; and which it is."""
    found = [(trace, spectra) for trace in variant.traces if (spectra := trace.spectra()) is not None]
    if not found:
        return None
    trace, first = found[0]
    same = [
        spectra for _, spectra in found if np.array_equal(spectra.steps, first.steps) and spectra.labels == first.labels
    ]
    if len(same) < len(found) or len(same) == 1:
        return first, f"seed {trace.seed}" if trace.seed is not None else "one seed"
    values = {name: np.mean([each.values[name] for each in same], axis=0) for name in first.values}
    shares = np.mean([each.shares for each in same], axis=0)
    return first._replace(values=values, shares=shares), f"mean over {len(same)} seeds"


def profile_charts(experiment: Experiment, looks: Mapping[str, Style]) -> Iterator[Chart]:
    """All variants by depth, at their last evaluation; none without gates."""
    spectra = {variant.slug: found[0] for variant in experiment.variants if (found := pooled(variant)) is not None}
    for field, (axis, title) in _PROFILES.items():
        chart = _profile(spectra, looks, field, axis, title)
        if chart is not None:
            yield chart


def gate_charts(experiment: Experiment, cells: int) -> Iterator[Chart]:
    """For each variant with gates a heat map of β, of about so many cells, and the regimes of its layers."""
    for variant in experiment.variants:
        if (found := pooled(variant)) is not None:
            yield _heat_map(variant.slug, *found, cells)
            yield _regimes(variant.slug, *found)


def _profile(
    spectra: Mapping[str, Spectra], looks: Mapping[str, Style], field: str, axis: str, title: str
) -> Chart | None:
    columns: dict[str, list[float | int | str | bool | None]] = {name: [] for name in "vgnm"}
    for slug, one in spectra.items():
        if field == "shrinking":
            before = one.values["discrepancy_before"][-1]
            last = np.divide(
                one.values["discrepancy_after"][-1], before, out=np.full_like(before, np.nan), where=before > 0
            )
        else:
            last = one.values[field][-1]
        kept = [place for place in range(len(one.labels)) if np.isfinite(last[place])]
        columns["v"] += [visible(slug)] * len(kept)
        columns["g"] += [one.labels[place] for place in kept]
        columns["n"] += [place + 1 for place in kept]
        columns["m"] += rounded(last[kept])
    if not columns["v"]:
        return None
    order = list(dict.fromkeys(label for one in spectra.values() for label in one.labels))
    x = {"field": "g", "type": "ordinal", "title": "sublayer, from the first to the last", "sort": order,
         "axis": {"labelAngle": 0 if len(order) <= 9 else -60}}  # fmt: skip
    y = {"field": "m", "type": "quantitative", "title": axis, "scale": {"zero": False}}
    layers = [
        {"mark": {"type": "line"}, "encoding": {"x": x, "y": y, **by_variant(looks, "strokeDash")}},
        {"mark": {"type": "point"}, "encoding": {"x": x, "y": y, **by_variant(looks, "shape")}},
        hover(
            on_top={"x": x, "y": y, **by_variant(looks, "shape")},
            tooltip=[("variant", "v", None), ("sublayer", "g", None), (axis, "m", ".4~g")],
        ),
    ]
    spec = {"width": WIDTH, "height": HEIGHT, "params": [HIDDEN], "transform": [NOT_HIDDEN], "layer": layers}
    return Chart(f"depth-{field.replace('_', '-')}", title, "at the last evaluation", spec, columns)


def _heat_map(slug: str, spectra: Spectra, which: str, cells: int) -> Chart:
    """Neighbouring evaluations are averaged where there are more than fit."""
    steps, beta = spectra.steps, spectra.values["beta_mean"]
    most = max(6, cells // max(1, len(spectra.labels)))
    parts = np.array_split(np.arange(len(steps)), min(most, len(steps)))
    ends = [int(steps[part[-1]]) for part in parts]
    means = np.stack([beta[part].mean(axis=0) for part in parts])
    num_layers = len(spectra.labels)
    columns: dict[str, Column] = {
        "x": [end for end in ends for _ in range(num_layers)],
        "g": list(spectra.labels) * len(ends),
        "m": rounded(means.ravel(), 4),
    }
    ticks = [ends[place] for place in np.unique(np.linspace(0, len(ends) - 1, 7).round().astype(int))]
    spec = {
        "width": WIDTH, "height": max(90, min(420, 22 * num_layers)),
        "mark": {"type": "rect"},
        "encoding": {
            "x": {"field": "x", "type": "ordinal", "title": "training step", "scale": {"padding": 0},
                  "axis": {"values": ticks, "labelAngle": 0, "format": "~s"}},
            "y": {"field": "g", "type": "ordinal", "title": None, "sort": list(spectra.labels),
                  "scale": {"padding": 0}},
            "color": {"field": "m", "type": "quantitative", "title": "β",
                      "scale": {"domain": [0, 2], "scheme": "viridis"},
                      "legend": {"format": ".1f", "values": [0, 0.5, 1, 1.5, 2],
                                 "gradientLength": max(80, min(160, 18 * num_layers))}},
            "tooltip": [
                {"field": "x", "type": "nominal", "title": "step"},
                {"field": "g", "type": "nominal", "title": "sublayer"},
                {"field": "m", "type": "quantitative", "title": "mean β", "format": ".3f"},
            ],
        },
    }  # fmt: skip
    note = f"{which}; β = 0 leaves the state, 1 projects, 2 reflects"
    return Chart(f"beta-{_file_name(slug)}", f"Gate β of {slug}", note, spec, columns)


def _regimes(slug: str, spectra: Spectra, which: str) -> Chart:
    shares = spectra.shares[-1]
    num_layers = len(spectra.labels)
    columns: dict[str, Column] = {
        "g": [label for label in spectra.labels for _ in REGIMES],
        "r": list(REGIMES) * num_layers,
        "o": list(range(len(REGIMES))) * num_layers,
        "m": rounded(shares.ravel(), 4),
    }
    spec = {
        "width": WIDTH, "height": max(90, min(420, 22 * num_layers)),
        "mark": {"type": "bar"},
        "encoding": {
            "x": {"field": "m", "type": "quantitative", "stack": "normalize", "title": "share of the gates",
                  "axis": {"format": "%"}},
            "y": {"field": "g", "type": "ordinal", "title": None, "sort": list(spectra.labels)},
            "color": {"field": "r", "type": "nominal", "title": None,
                      "scale": {"domain": list(REGIMES), "range": list(REGIME_COLOURS)},
                      "legend": {"orient": "top", "columns": 3, "symbolType": "square"}},
            "order": {"field": "o"},
            "tooltip": [
                {"field": "g", "type": "nominal", "title": "sublayer"},
                {"field": "r", "type": "nominal", "title": "regime"},
                {"field": "m", "type": "quantitative", "title": "share", "format": ".1%"},
            ],
        },
    }  # fmt: skip
    note = f"{which}, after step {spectra.steps[-1]:,.0f}"
    return Chart(f"regimes-{_file_name(slug)}", f"Regimes of {slug}", note, spec, columns)


def _file_name(slug: str) -> str:
    return re.sub("[^a-z0-9]+", "-", slug.lower()).strip("-") or "variant"
