"""What a view shows as a table: for the clipboard, and as CSV beside an SVG in the present folder."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from deep_delta.benchmarks.gate import Verdict
from deep_delta.errors import StorageError
from deep_delta.explore.tables import (
    Table,
    benchmark_table,
    cost_table,
    ranking_table,
    seeds_table,
    spectra_table,
)
from deep_delta.explore.trace import SPECTRUM
from deep_delta.runs.storage import storage_error
from deep_delta.spectral.regimes import REGIMES
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.drawing.svg import svg
from deep_delta.tui.frame import paint
from deep_delta.tui.session import Session
from deep_delta.tui.views.benchmarks import verdict_of
from deep_delta.tui.views.curves import curves_of, main_measure, value_at
from deep_delta.tui.views.spectra import index_at

Row = Sequence[object]


def export_view(session: Session, folder: Path, width: int, height: int, palette: Palette) -> tuple[Path, Path]:
    """Write the view as SVG and its numbers as CSV under a name that is free; `StorageError` where that fails."""
    picture = svg(paint(session, width, height, palette).canvas, palette, f"ddl tui: {session.view}")
    table = delimited(view_rows(session), ",")
    number = 1
    while True:
        paths = tuple(folder / f"ddl-{session.view}-{number}.{ending}" for ending in ("svg", "csv"))
        if not any(path.exists() or path.is_symlink() for path in paths):
            try:
                for path, content in zip(paths, (picture, table), strict=True):
                    with path.open("x", encoding="utf-8", newline="") as file:
                        file.write(content)
            except FileExistsError:
                continue  # someone else took the number just now
            except OSError as error:
                raise storage_error(path, error) from None
            return paths[0], paths[1]
        number += 1
        if number > 10_000:
            raise StorageError(f"{folder} has 10,000 exports of this view; move some away")


def view_rows(session: Session) -> Iterator[Row]:
    """The view's numbers, its head first: curves and spectra one observation a row."""
    if session.view == "curves":
        yield from _curve_rows(session)
    elif session.view == "spectra":
        yield from _spectra_rows(session)
    elif session.view == "comparison":
        yield from _comparison_rows(session)
    else:
        yield from _benchmark_rows(session)


def clipboard_text(session: Session) -> str:
    """What `y` copies, tab by tab: values at the cursor, or at the end; whole tables of the other views."""
    if session.view == "curves":
        measure = main_measure(session)
        if measure is None:
            return ""
        x = "last" if session.cursor_here is None else f"{session.cursor_here:g}"
        rows: list[Row] = [("variant", session.axis, measure)]
        rows += [
            (curve.variant.label, x, value_at(curve.line, session.cursor_here)) for curve in curves_of(session, measure)
        ]
        return delimited(rows, "\t")
    if session.view == "spectra":
        trace = session.chosen_trace()
        spectra = None if trace is None else trace.spectra()
        if spectra is None or not spectra.steps.size:
            return ""
        return delimited(_table_rows(spectra_table(spectra, index_at(spectra, session.cursor_here))), "\t")
    return delimited(view_rows(session), "\t")


def delimited(rows: Iterator[Row] | Sequence[Row], separator: str) -> str:
    """Numbers with all their digits; nothing for what there is not."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    for row in rows:
        writer.writerow(["" if value is None else repr(value) if isinstance(value, float) else value for value in row])
    return out.getvalue()


def _curve_rows(session: Session) -> Iterator[Row]:
    yield "experiment", "variant", "measure", session.axis, "least", "mean", "greatest", "not finite"
    of = {variant.label: one.name for one in session.exploration.experiments for variant in one.variants}
    for measure in session.measures():
        for curve in curves_of(session, measure):
            line = curve.line
            for x, low, mean, high, bad in zip(line.x, line.low, line.mean, line.high, line.bad, strict=True):
                values = [float(value) if math.isfinite(value) else None for value in (low, mean, high)]
                yield of[curve.variant.label], curve.variant.slug, measure, float(x), *values, int(bad)


def _spectra_rows(session: Session) -> Iterator[Row]:
    yield "variant", "seed", "step", "layer", *SPECTRUM, *REGIMES
    chosen, trace = session.chosen_variant(), session.chosen_trace()
    spectra = None if trace is None else trace.spectra()
    if chosen is None or trace is None or spectra is None:
        return
    for index, step in enumerate(spectra.steps):
        for place, label in enumerate(spectra.labels):
            values = [float(spectra.values[name][index, place]) for name in SPECTRUM]
            values += [float(share) for share in spectra.shares[index, place]]
            yield chosen.label, trace.seed, float(step), label, *(v if math.isfinite(v) else None for v in values)


def _comparison_rows(session: Session) -> Iterator[Row]:
    """Ranking and cost side by side, and one row for each seed below."""
    labels = {variant.label for variant in session.listed()}
    for experiment in session.exploration.experiments:
        slugs = {variant.slug for variant in experiment.variants if variant.label in labels}
        if not slugs:
            continue
        ranking, cost, seeds = ranking_table(experiment), cost_table(experiment), seeds_table(experiment)
        costs = {row[0]: row[1:-1] for row in cost.rows}
        yield "experiment", *ranking.columns, *cost.columns[1:-1]
        for row in ranking.rows:
            if row[1] in slugs:
                yield experiment.name, *row, *costs[row[1]]
        yield ()
        yield "experiment", *seeds.columns
        for row in seeds.rows:
            if row[0] in slugs:
                yield experiment.name, *row
        yield ()


def _benchmark_rows(session: Session) -> Iterator[Row]:
    for saved in session.exploration.benchmarks:
        verdict = verdict_of(session, saved.record)
        table = benchmark_table(saved.record, verdict if isinstance(verdict, Verdict) else None)
        yield "file", *table.columns
        for row in table.rows:
            yield saved.path.name, *row


def _table_rows(table: Table) -> Iterator[Row]:
    yield table.columns
    yield from table.rows
