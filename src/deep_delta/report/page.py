"""One HTML file that holds everything: text, tables, pictures, data and the library that draws. It asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deep_delta import __version__
from deep_delta.errors import ConfigError
from deep_delta.explore import Exploration
from deep_delta.report.chart import CONFIG, FULL, Chart, Detail
from deep_delta.report.drawing import library, svg
from deep_delta.report.html import Html, embedded, tag
from deep_delta.report.packing import packed
from deep_delta.report.provenance import configuration, facts, problems
from deep_delta.report.results import Sample, result_sections, samples_section
from deep_delta.report.sections import charts_of, experiment_sections
from deep_delta.report.style import styles
from deep_delta.runs.storage import atomic_write

GENERATOR = "ddl report"
MOST_BYTES = 2_000_000
_DETAILS = (FULL, Detail(120, 600), Detail(60, 240), Detail(60, 0, everything=False), Detail(24, 0, everything=False))
"""The first that fits is drawn."""
_HEAD_BYTES = 4096
_HINT = (
    "Drag a chart to move it, hold Shift and turn the wheel to zoom, double-click to see all again; point at a curve "
    "for its values. A box above the charts hides a variant."
)
_LACKING = (
    "These are many runs for one page: gates layer by layer, learning rate, gradient norm and tokens/s are left out. A "
    "page of fewer runs has them."
)


def write_page(exploration: Exploration, path: Path, samples: Sequence[Sample] = ()) -> int:
    """Build a page and write it; its size in bytes. `ConfigError` where `check_target` refuses, `StorageError` from
    the disk."""
    check_target(path)
    content = build_page(exploration, samples).encode()
    atomic_write(path, content)
    return len(content)


def check_target(path: Path) -> None:
    """`ConfigError` unless a page may be written to `path`: nothing is there, or an earlier page."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give a file for the page, as {path / 'report.html'}")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the page; make it first or choose another")
    if path.is_symlink() or (path.exists() and not _is_page(path)):
        raise ConfigError(f"{path} is there and no page of ddl report; choose another file")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return f'<meta name="generator" content="{GENERATOR} '.encode() in file.read(_HEAD_BYTES)


def build_page(exploration: Exploration, samples: Sequence[Sample] = ()) -> str:
    """The whole page, below 2 MB. `ConfigError` where so many runs do not fit however coarse their curves are."""
    for detail in _DETAILS:
        text = _page(exploration, samples, detail)
        if len(text.encode()) < MOST_BYTES:
            return text
    raise ConfigError(
        f"{len(exploration.variants)} variants make a page of more than {MOST_BYTES / 1e6:.0f} MB; give fewer runs"
    )


def _page(exploration: Exploration, samples: Sequence[Sample], detail: Detail) -> str:
    data: list[Any] = []

    def drawn(chart: Chart) -> Html:
        number = len(data)
        columns = {name: packed(column) for name, column in chart.columns.items()}
        data.append({"spec": chart.interactive(), "columns": columns})
        return _figure(chart, number)

    looks = styles(variant.slug for variant in exploration.variants)
    several = len(exploration.experiments) > 1
    sections: list[Html] = []
    for experiment in exploration.experiments:
        charts = charts_of(experiment, looks, detail)
        sections += experiment_sections(experiment, charts, looks, drawn, experiment.name if several else None)
    title = _title(exploration)
    lacking = None if detail.everything else tag("p", _LACKING, class_="note")
    hint = tag("p", _HINT, class_="note hint") if data else None
    body = [
        tag("header", tag("h1", title), tag("p", _summary(exploration), class_="dim"), problems(exploration),
            facts(exploration) if exploration.runs else None,
            configuration(exploration) if exploration.runs else None, lacking, hint),
        tag("main", sections, samples_section(samples), list(result_sections(exploration))),
        tag("footer", f"Made by ddl report {__version__}. The page holds all that it shows and fetches nothing."),
    ]  # fmt: skip
    scripts = [library(), _own("page.js")] if data else []
    stored = [
        tag("script", embedded(data), type="application/json", id="charts"),
        tag("script", embedded(CONFIG), type="application/json", id="chart-config"),
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=f"{GENERATOR} {__version__}"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("title", title),
        tag("style", Html(_own("page.css"))),
    )
    ending = [stored, [tag("script", Html(script)) for script in scripts]] if data else []
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', body, ending), lang='en')}\n"


def _figure(chart: Chart, number: int) -> Html:
    buttons = [
        tag("button", sign, type="button", data_zoom=factor, aria_label=f"{words}: {chart.title}", title=words)
        for sign, factor, words in (("+", "2", "zoom in"), ("−", "0.5", "zoom out"), ("⟲", "0", "see all"))
    ]
    return tag(
        "figure",
        tag("figcaption", tag("span", chart.title), tag("span", buttons, class_="zoom") if chart.zoomable else None),
        tag("p", chart.note, class_="note"),
        tag("div", Html(svg(chart, f"c{number}-")), class_="still"),
        tag("div", class_="live", hidden=True),
        data_chart=str(number), aria_label=chart.title,
    )  # fmt: skip


def _policy(scripts: Sequence[str]) -> str:
    """What a browser may do for this page: run these very scripts, and fetch nothing from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _title(exploration: Exploration) -> str:
    names = [experiment.name for experiment in exploration.experiments]
    names = names or [
        saved.path.name for saved in (*exploration.suites, *exploration.inspections, *exploration.benchmarks)
    ]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _summary(exploration: Exploration) -> str:
    traces = exploration.traces
    if not traces:
        return "saved results"
    counted = [_counted(len(exploration.variants), "variant"), _counted(len({trace.seed for trace in traces}), "seed")]
    kinds = [trace.status.kind for trace in traces]
    ended = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    return ", ".join([*counted, f"all {kinds[0]}" if len(ended) == 1 else "; ".join(ended)])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _own(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
