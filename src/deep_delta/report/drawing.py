"""Specifications drawn by vl-convert: SVG, PNG, and the library that a page draws with. Nothing is fetched."""

from __future__ import annotations

import re
from functools import cache
from types import ModuleType
from typing import Any

from deep_delta.errors import ConfigError
from deep_delta.report.chart import Chart

_PLACED = re.compile(r' (?:d|transform|x[12]?|y[12]?|width|height)="[^"]*"')
_LONG = re.compile(r"-?\d*\.\d{2,}")
_RECTANGLE = re.compile(r'<path d="M([-\d.]+),([-\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+Z" fill="([^"<>]+)"/>')
_RUN = re.compile(rf"(?:{_RECTANGLE.pattern}){{3,}}")
_EMPTY = re.compile(
    r'<path class="(?:fore|back)ground"[^>]*?(?: d="M0,0h0v0h0Z"[^>]*| d=""[^>]*| display="none"[^>]*)/>'
)
_HIDDEN = re.compile(r'<path d="[^"]*"[^>]* opacity="0"[^>]*/>')


def converter() -> ModuleType:
    """vl-convert; `ConfigError` where it is not installed."""
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise ConfigError(
            "the charts are drawn by vl-convert, which is not installed; pip install 'deep-delta-learning[report]'"
        ) from None
    return vl_convert


@cache
def library() -> str:
    """One script with Vega, Vega-Lite and Vega-Embed, for any number of charts; some 0.9 MB."""
    text: str = converter().javascript_bundle()
    assert "</script" not in text.lower()
    assert "<!--" not in text
    return text


def svg(chart: Chart, prefix: str) -> str:
    """For inside a page: in the colour of its text, on its background, and small. prefix: see `compact`."""
    return compact(_svg(chart.drawable()), prefix)


def figure_svg(chart: Chart) -> str:
    """For a paper: black on white, with a legend."""
    return _svg(chart.drawable(legend=True, background="white")).replace("currentColor", "#000")


def figure_png(chart: Chart, scale: float = 2) -> bytes:
    return bytes(converter().svg_to_png(figure_svg(chart), scale=scale))


def _svg(spec: dict[str, Any]) -> str:
    return str(converter().vegalite_to_svg(spec, allowed_base_urls=[]))


def compact(text: str, prefix: str) -> str:
    """The same picture in fewer bytes: tenths of a pixel, equal neighbours as one path, and nothing unseen.

    prefix: makes the ids of clip paths and gradients unique in a page.
    """
    text = _HIDDEN.sub("", _EMPTY.sub("", text))
    text = _RUN.sub(lambda run: _merge(run.group()), text)
    text = _PLACED.sub(lambda places: _LONG.sub(_tenths, places.group()), text).replace(' stroke-dasharray="1,0"', "")
    return re.sub(r'(id="|url\(#)(\w+)', rf"\g<1>{prefix}\g<2>", text)


def _tenths(number: re.Match[str]) -> str:
    return f"{float(number.group()):.1f}".removesuffix(".0")


def _merge(rectangles: str) -> str:
    """One path for each colour. Cells reach half a pixel into the next, so that no seam shows between them."""
    paths: dict[str, list[str]] = {}
    for x, y, width, height, fill in _RECTANGLE.findall(rectangles):
        right, down = f"{float(width) + 0.5:g}", f"{float(height) + 0.5:g}"
        paths.setdefault(fill, []).append(f"M{x},{y}h{right}v{down}h-{right}z")
    return "".join(
        f'<path shape-rendering="crispEdges" fill="{fill}" d="{"".join(parts)}"/>' for fill, parts in paths.items()
    )
