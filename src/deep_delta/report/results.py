"""The parts of a page that are no training: what models wrote, and saved evaluations, inspections and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from deep_delta.explore import Exploration
from deep_delta.explore.tables import (
    benchmark_table,
    directions_table,
    gates_table,
    harness_table,
    interventions_table,
    ranks_table,
    suite_comparisons_table,
    suites_table,
)
from deep_delta.report.html import Content, Html, tag
from deep_delta.report.tables import table, without_empty
from deep_delta.runs.inspection import Inspection
from deep_delta.runs.suites import SuiteResults


class Sample(NamedTuple):
    """What a model wrote; or why it wrote nothing."""

    label: str
    prompt: str
    text: str
    problem: str | None = None


def samples_section(samples: Sequence[Sample]) -> Html | None:
    if not samples:
        return None
    shown: list[Content] = []
    for sample in samples:
        problem = sample.problem
        if problem is None and not sample.text.strip():
            problem = "nothing but blanks"
        written = tag("pre", tag("b", sample.prompt) if sample.prompt else None, sample.text)
        shown.append(
            tag("div", tag("h3", sample.label), written if problem is None else tag("p", problem, class_="note"))
        )
    note = tag("p", "Drawn at temperature 0.7 from the latest checkpoint of one seed; a look, not a measurement.",
               class_="note")  # fmt: skip
    return tag("section", tag("h2", "Samples"), note, tag("div", shown, class_="samples"))


def result_sections(exploration: Exploration) -> Iterator[Html]:
    """Evaluations, inspections and benchmarks that lie beside the runs or were named."""
    for saved in exploration.suites:
        tables = [of(saved.record) for of in (suites_table, suite_comparisons_table, harness_table)]
        shown = [table(without_empty(each)) for each in tables if each.rows]
        yield tag("section", tag("h2", f"Evaluation {saved.path.name}"), _evaluated(saved.record), shown)
    for saved in exploration.inspections:
        tables = [of(saved.record) for of in (interventions_table, gates_table, ranks_table, directions_table)]
        shown = [table(without_empty(each)) for each in tables if each.rows]
        yield tag("section", tag("h2", f"Inspection {saved.path.name}"), _inspected(saved.record), shown)
    for saved in exploration.benchmarks:
        shown = [table(without_empty(benchmark_table(saved.record)), "")]
        yield tag("section", tag("h2", f"Benchmark {saved.path.name}"), shown)


def _evaluated(results: SuiteResults) -> list[Html]:
    return [
        tag("p", f"{one.name}: {one.path}, {one.variant}, seed {one.seed}, after step {one.step:,}, trained on "
            f"{one.data.name}", class_="note")
        for one in results.models
    ]  # fmt: skip


def _inspected(inspection: Inspection) -> Html:
    model = inspection.model
    return tag(
        "p",
        f"{model.path}, {model.variant}, seed {model.seed}, after step {model.step:,}; on {inspection.documents:,} "
        f"documents ({inspection.tokens:,} tokens) of the {inspection.split} split of {inspection.data.name}, loss "
        f"{inspection.loss:.4f}",
        class_="note",
    )
