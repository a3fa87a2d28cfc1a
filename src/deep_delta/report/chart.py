"""One chart: a Vega-Lite specification without its data, and the data by column."""

# N rows of a chart's data

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from deep_delta.report.html import visible
from deep_delta.report.style import Style

Column = Sequence[float | int | str | bool | None]

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
WIDTH, HEIGHT = 440, 230
_INK = "currentColor"
_HOVER = "hovered"

CONFIG: dict[str, Any] = {
    "aria": False,  # the figure around it has a label; one for each mark is most of an SVG's size
    "background": None,
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK, "titleColor": _INK, "gridColor": _INK, "domainColor": _INK, "tickColor": _INK,
        "gridOpacity": 0.12, "domainOpacity": 0.4, "tickOpacity": 0.4, "labelOpacity": 0.85, "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8, "tickCount": 6, "labelOverlap": "greedy",
        "labelLimit": 120,
    },
    "legend": {
        "labelColor": _INK, "titleColor": _INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "gradientThickness": 10, "labelLimit": 240, "symbolSize": 70,
    },
    "line": {"strokeWidth": 1.8, "strokeCap": "round", "strokeJoin": "round"},
    "point": {"filled": True, "size": 40, "opacity": 1},
}  # fmt: skip


class Detail(NamedTuple):
    """How much is drawn; less where a page would be too large."""

    points: int
    """of each curve, at most"""
    cells: int
    """of each heat map, about"""
    everything: bool = True
    """false: only the losses, costs and profiles by depth"""


FULL = Detail(240, 900)


class Chart(NamedTuple):
    """What is drawn once as SVG, once as an interactive chart, and as a figure of a paper."""

    name: str
    """of its figure's file: letters, digits and dashes"""
    title: str
    note: str
    spec: Mapping[str, Any]
    columns: Mapping[str, Column]
    """each [N]"""
    zoomable: bool = False

    def drawable(self, *, legend: bool = False, background: str | None = None) -> dict[str, Any]:
        """A whole specification, with data and without what only a reader can wake.

        legend: of the variants, which a page shows once for all its charts.
        """
        rows = [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]
        still = dict(self.spec)
        if "layer" in still:
            still["layer"] = [layer for layer in still["layer"] if layer.get("name") != _HOVER]
        config = {**CONFIG, "background": background}
        return {"config": config, "data": {"values": rows}, **with_legends(still, shown=legend)}

    def interactive(self) -> dict[str, Any]:
        """The specification for a reader's screen: as wide as its place, without the data."""
        spec = with_legends({**self.spec, "width": "container"}, shown=False)
        return {**spec, "autosize": {"type": "fit-x", "contains": "padding"}}


def with_legends(spec: Any, *, shown: bool) -> Any:
    """The same specification with the legends of variants shown or not: those marked by `variant_encoding`."""
    if isinstance(spec, Mapping):
        if "__legend" in spec:
            return {
                **{key: value for key, value in spec.items() if key != "__legend"},
                "legend": _LEGEND if shown else None,
            }
        return {key: with_legends(value, shown=shown) for key, value in spec.items()}
    if isinstance(spec, list):
        return [with_legends(value, shown=shown) for value in spec]
    return spec


_LEGEND = {"symbolOpacity": 1}


def by_variant(looks: Mapping[str, Style], *channels: str) -> dict[str, Any]:
    """The encoding of a variant (field `v`) by colour and, where named, by shape and dash."""
    labels = [visible(label) for label in looks]
    ranges: dict[str, list[Any]] = {
        "color": [style.colour for style in looks.values()],
        "shape": [style.shape for style in looks.values()],
        "strokeDash": [list(style.dash) for style in looks.values()],
    }
    return {
        channel: {
            "field": "v", "type": "nominal", "title": None, "__legend": True,
            "scale": {"domain": labels, "range": ranges[channel]},
        }
        for channel in ("color", *channels)
    }  # fmt: skip


HIDDEN = {"name": "hidden", "value": []}
"""The variants that the reader has switched off; a page sets it in all charts together."""
NOT_HIDDEN = {"filter": "indexof(hidden, datum.v) < 0"}

ZOOM = {
    "name": "zoom",
    "select": {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.shiftKey]"},
    "bind": "scales",
}


def hover(*, on_top: Mapping[str, Any], tooltip: Iterable[tuple[str, str, str | None]]) -> dict[str, Any]:
    """A layer of invisible points: the nearest one is shown with its values.

    tooltip: title, field and number format (None for words) of each value. It is one expression because the cells
    around the points, which answer the mouse, hold a point's values in `datum.datum`, and a list of words would be
    looked up in `datum` by some versions of Vega-Lite.
    """
    values = []
    for title, field, form in tooltip:
        value = f"(datum.datum || datum)[{json.dumps(field)}]"
        values.append(f"{json.dumps(title)}: " + (value if form is None else f"format({value}, {json.dumps(form)})"))
    return {
        "name": _HOVER,
        "params": [
            {"name": "hover", "select": {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}}
        ],
        "mark": {"type": "point", "size": 70},
        "encoding": {
            **on_top,
            "opacity": {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0},
            "tooltip": {"value": {"expr": f"{{{', '.join(values)}}}"}},
        },
    }


def rounded(values: Iterable[float], digits: int = 5) -> list[float | None]:
    """Numbers as a page holds them: so many significant digits; None for what is not finite."""
    return [float(f"{value:.{digits}g}") if abs(value) < float("inf") else None for value in values]
