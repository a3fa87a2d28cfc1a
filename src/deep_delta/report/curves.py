"""Curves over training: the mean over seeds in the band of all of them, broken where something is missing."""

# N rows of a chart's data

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deep_delta.explore import MEASURES, Axis, Experiment, Line, Measure, Variant, decimate
from deep_delta.explore.line import segments
from deep_delta.explore.trace import TITLES
from deep_delta.report.chart import (
    HEIGHT,
    HIDDEN,
    NOT_HIDDEN,
    WIDTH,
    ZOOM,
    Chart,
    Column,
    Detail,
    by_variant,
    hover,
    rounded,
)
from deep_delta.report.html import visible
from deep_delta.report.style import Style

AXES: Mapping[Axis, tuple[str, str]] = {
    "step": ("training step", "~s"),
    "tokens": ("training tokens", "~s"),
    "flops": ("FLOPs of training", "~s"),
    "seconds": ("seconds of training", "~s"),
}
_FEW = 25
"""Up to so many points a curve, each is drawn."""
_NOISY: tuple[Measure, ...] = ("grad_norm", "tokens_per_second")
_NOISY_POINTS = 80
"""Means of so many stretches read better than every step of these."""
_LOGARITHMIC = 60.0
"""From this ratio of greatest to least on, the y axis is logarithmic."""
_LOSSES: tuple[Measure, ...] = ("validation", "loss", "accuracy")
_ORDER: tuple[Measure, ...] = ("validation", "loss", *(one for one in MEASURES if one not in ("validation", "loss")))


def curve_charts(experiment: Experiment, looks: Mapping[str, Style], detail: Detail) -> Iterator[Chart]:
    """One chart for each measure that a run has, over steps."""
    for measure in _ORDER if detail.everything else _LOSSES:
        if any(measure in trace.measures() for variant in experiment.variants for trace in variant.traces):
            chart = curve_chart(experiment, looks, measure, "step", detail.points)
            if chart is not None:
                yield chart


def curve_chart(
    experiment: Experiment, looks: Mapping[str, Style], measure: Measure, axis: Axis, points: int
) -> Chart | None:
    """One measure of all variants along one axis; None where there is nothing of it."""
    points = min(points, _NOISY_POINTS) if measure in _NOISY else points
    bands = {variant.slug: _band(variant, measure, axis, points) for variant in experiment.variants}
    columns = _columns(bands)
    if not columns["v"]:
        return None
    title, form = AXES[axis]
    x = {
        "field": "x", "type": "quantitative", "title": title, "axis": {"format": form},
        "scale": {"zero": False, "nice": False},
    }  # fmt: skip
    scale = {"type": "log"} if _is_logarithmic(bands) else {"zero": False}
    y: dict[str, Any] = {"type": "quantitative", "title": TITLES[measure], "scale": scale}
    if measure == "learning_rate":
        y["axis"] = {"format": ".3~g"}  # of a constant one, the usual format would be 0
    detail = {"detail": {"field": "s", "type": "nominal"}}
    tooltip = [
        ("variant", "v", None),
        (title, "x", ",.6~g"),
        ("mean", "m", ".5~g"),
        ("least", "l", ".5~g"),
        ("greatest", "h", ".5~g"),
    ]
    drawn = "isValid(datum.m)"
    layers = [
        {
            "transform": [{"filter": drawn}],
            "mark": {"type": "area", "opacity": 0.2 if len(bands) <= 2 else 0.12, "strokeWidth": 0},
            "encoding": {"x": x, "y": {**y, "field": "l"}, "y2": {"field": "h"}, **detail, **by_variant(looks)},
        },
        {
            "params": [ZOOM],
            "transform": [{"filter": drawn}],
            "mark": {"type": "line", "clip": True},
            "encoding": {"x": x, "y": {**y, "field": "m"}, **detail, **by_variant(looks, "strokeDash")},
        },
        {
            "transform": [{"filter": f"{drawn} && datum.p"}],
            "mark": {"type": "point", "clip": True},
            "encoding": {"x": x, "y": {**y, "field": "m"}, **by_variant(looks, "shape")},
        },
        {
            "transform": [{"filter": "datum.b"}],
            "mark": {"type": "point", "shape": "cross", "angle": 45, "size": 70, "clip": True},
            "encoding": {"x": x, "y": {"value": 6}, **by_variant(looks)},
        },
        {
            "transform": [{"filter": drawn}],
            **hover(on_top={"x": x, "y": {**y, "field": "m"}, **by_variant(looks, "shape")}, tooltip=tooltip),
        },
    ]
    is_line = any(mean is not None for mean in columns["m"])
    needed = (is_line, is_line, is_line and any(columns["p"]), any(columns["b"]), is_line)
    layers = [layer for layer, wanted in zip(layers, needed, strict=True) if wanted]
    spec = {"width": WIDTH, "height": HEIGHT, "params": [HIDDEN], "transform": [NOT_HIDDEN], "layer": layers}
    against = "" if axis == "step" else f" against {title}"
    name = re.sub("[^a-z]+", "-", f"{measure}{against.replace('FLOPs', 'flops')}").strip("-")
    heading = re.sub(r" \(.*\)", "", TITLES[measure][0].upper() + TITLES[measure][1:]) + against
    return Chart(name, heading, _note(experiment, bands), spec, columns, zoomable=is_line)


def _band(variant: Variant, measure: Measure, axis: Axis, points: int) -> Line:
    """As `Variant.band`, with at most so many points also where there is one seed."""
    line = variant.band(measure, axis, points)
    if line.size <= points:
        return line
    line = decimate(line, np.linspace(line.x[0], line.x[-1], points + 1))
    kept = np.isfinite(line.mean) | line.bad
    return Line(*(column[kept] for column in line))


def _columns(bands: Mapping[str, Line]) -> dict[str, Column]:
    """v variant, s stretch that one stroke may join, x, m mean, l least, h greatest, b not finite, p to be a point."""
    found: dict[str, list[float | int | str | bool | None]] = {name: [] for name in "vsxmlhbp"}
    for slug, line in bands.items():
        stretch = np.zeros(line.size, int)
        alone = np.zeros(line.size, bool)
        for number, part in enumerate(segments(line)):
            stretch[part] = number
            alone[part] = part.stop - part.start == 1
        found["v"] += [visible(slug)] * line.size
        found["s"] += stretch.tolist()
        found["x"] += rounded(line.x, 7)
        found["m"] += rounded(line.mean)
        found["l"] += rounded(line.low)
        found["h"] += rounded(line.high)
        found["b"] += [int(bad) for bad in line.bad]
        found["p"] += [int(one or line.size <= _FEW) for one in alone]
    return dict(found)


def _is_logarithmic(bands: Mapping[str, Line]) -> bool:
    values = np.concatenate([np.concatenate((line.low, line.high)) for line in bands.values()])
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() > 0 and float(values.max()) > _LOGARITHMIC * float(values.min())


def _note(experiment: Experiment, bands: Mapping[str, Line]) -> str:
    seeds = max((len(variant.traces) for variant in experiment.variants), default=0)
    words = []
    is_coarse = any((line.start < line.x).any() for line in bands.values())
    if seeds > 1:
        among = "seeds and neighbouring steps" if is_coarse else "seeds"
        words.append(f"line: mean of up to {seeds} seeds; band: least to greatest of {among}")
    elif is_coarse:
        words.append("line: mean of neighbouring steps; band: least to greatest of them")
    if any(line.bad.any() for line in bands.values()):
        words.append("× at the top: a value that is not finite")
    return "; ".join(words)
