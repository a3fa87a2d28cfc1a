"""The parts of a page about one experiment: ranking, curves, costs and gates, each of what there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from deep_delta.explore import Experiment
from deep_delta.explore.tables import cost_table, ranking_table, seeds_table, spectra_table
from deep_delta.report.chart import FULL, Chart, Detail
from deep_delta.report.costs import cost_charts, ranking_chart
from deep_delta.report.curves import curve_charts
from deep_delta.report.formulas import explanation
from deep_delta.report.gates import gate_charts, pooled, profile_charts
from deep_delta.report.html import Html, tag
from deep_delta.report.style import Style
from deep_delta.report.tables import table, without_empty

Drawn = Callable[[Chart], Html]
"""How a chart becomes a figure of the page."""


class Charts(NamedTuple):
    """All charts of one experiment."""

    ranking: Chart | None
    curves: Sequence[Chart]
    costs: Sequence[Chart]
    profiles: Sequence[Chart]
    gates: Sequence[Chart]

    def all(self) -> list[Chart]:
        ranking = [] if self.ranking is None else [self.ranking]
        return [*ranking, *self.curves, *self.costs, *self.profiles, *self.gates]


def charts_of(experiment: Experiment, looks: Mapping[str, Style], detail: Detail = FULL) -> Charts:
    """Everything that is drawn of an experiment."""
    own = {variant.slug: looks[variant.slug] for variant in experiment.variants}
    return Charts(
        ranking_chart(experiment, own),
        list(curve_charts(experiment, own, detail)),
        list(cost_charts(experiment, own, detail.points)),
        list(profile_charts(experiment, own)),
        list(gate_charts(experiment, detail.cells)) if detail.everything else [],
    )


def experiment_sections(
    experiment: Experiment, charts: Charts, looks: Mapping[str, Style], drawn: Drawn, heading: str | None
) -> Iterator[Html]:
    """heading: the experiment's name, where a page has several."""
    if heading is not None:
        yield tag("h2", heading)
    inner = "h2" if heading is None else "h3"
    yield legend([variant.slug for variant in experiment.variants], looks)
    first, rest = ([charts.ranking], charts.curves) if charts.ranking else ([], charts.curves)
    if first and len(rest) > 1:
        first, rest = [*first, rest[0]], rest[1:]
    yield tag("section", tag(inner, "Ranking"), _grid(first, drawn),
              table(without_empty(ranking_table(experiment)), ""))  # fmt: skip
    yield tag("section", tag(inner, "Training"), _grid(rest, drawn), _seeds(experiment))
    yield tag("section", tag(inner, "Cost"), _grid(charts.costs, drawn), table(cost_table(experiment), ""))
    if charts.profiles or charts.gates:
        spectra = [
            table(spectra_table(found[0]), f"{variant.slug}, {found[1]}")
            for variant in experiment.variants
            if (found := pooled(variant)) is not None
        ]
        measures = tag("details", tag("summary", "All spectral measures at the last evaluation"), spectra)
        grids = (_grid(charts.profiles, drawn), _grid(charts.gates, drawn))
        yield tag("section", tag(inner, "Gates"), explanation(), grids, measures)


def legend(slugs: Sequence[str], looks: Mapping[str, Style]) -> Html:
    """The variants with their marks; with scripts on, each can be switched off in all charts."""
    boxes = [
        tag(
            "label",
            tag("input", type="checkbox", checked=True, value=slug, data_variant=True, autocomplete="off"),
            _mark(looks[slug]),
            slug,
        )
        for slug in slugs
    ]
    return tag("div", tag("b", "Variants"), boxes, class_="legend")


_PATHS = {
    "circle": "M4 0A4 4 0 1 1-4 0 4 4 0 1 1 4 0z", "square": "M-4-4h8v8h-8z", "triangle-up": "M0-5L5 4h-10z",
    "diamond": "M0-5L4.5 0 0 5-4.5 0z", "cross": "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    "triangle-down": "M0 5L5-4h-10z", "triangle-right": "M5 0L-4 5v-10z", "triangle-left": "M-5 0L4 5v-10z",
}  # fmt: skip


def _mark(style: Style) -> Html:
    dash = " ".join(map(str, style.dash)) if style.dash[1] else None
    return tag(
        "svg",
        tag("path", d="M-13 0H13", stroke=style.colour, stroke_width="2", stroke_dasharray=dash),
        tag("path", d=_PATHS[style.shape], fill=style.colour),
        viewBox="-13 -6 26 12", width="26", height="12", aria_hidden="true",
    )  # fmt: skip


def _grid(charts: Sequence[Chart], drawn: Drawn) -> Html | None:
    return tag("div", [drawn(chart) for chart in charts], class_="charts") if charts else None


def _seeds(experiment: Experiment) -> Html:
    return tag("details", tag("summary", "Every variant and seed: how it stands"), table(seeds_table(experiment), ""))
