"""Every curve and spectrum of runs as tidy tables: CSV files with one observation a row."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deep_delta.errors import ConfigError
from deep_delta.explore.exploration import Exploration
from deep_delta.explore.journal import Journal
from deep_delta.explore.tables import Table, Value, benchmark_table, cost_table, ranking_table, seeds_table
from deep_delta.explore.trace import SPECTRUM, Trace, number_of
from deep_delta.runs.storage import make_folder, storage_errors
from deep_delta.spectral.regimes import REGIMES

_WHO = ("run", "variant", "seed")
CURVES = (*_WHO, "measure", "step", "tokens", "flops", "seconds", "value")
SPECTRA = (*_WHO, "step", "layer", "sublayer", "measure", "value")
ACCURACIES = (*_WHO, "step", "lengths", "measure", "value")

_STEP = ("loss", "learning_rate", "grad_norm")
_EVALUATION = (("validation", "loss"), ("bits_per_byte", "bits_per_byte"))
_ACCURACY = ("overall", "last", "exact")

Row = tuple[Value, ...]


def export_csv(exploration: Exploration, folder: Path) -> dict[str, int]:
    """Write curves.csv, spectra.csv, accuracies.csv, ranking.csv, cost.csv, seeds.csv and one file for each benchmark
    into a new or empty folder; those that would have no row are left out. Returns each file's number of rows.

    Curves and spectra come from the event logs in one pass, every step of them. Columns: `CURVES` (tokens, FLOPs and
    seconds of training up to there; FLOPs are empty where a token's are not known), `SPECTRA`, `ACCURACIES`.

    `ConfigError` for a folder with something in it, `StorageError` from the disk.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there and not empty; choose a new folder for the tables")
    make_folder(folder)
    written = _write_logs(exploration.traces, folder)
    for table in _tables(exploration):
        written[f"{table.name}.csv"] = _write(folder / f"{table.name}.csv", table.columns, table.rows)
    return written


def _write_logs(traces: Iterable[Trace], folder: Path) -> dict[str, int]:
    sinks = {name: _Sink(folder / f"{name}.csv", columns) for name, columns in _LOG_TABLES.items()}
    try:
        for trace in traces:
            for name, row in observations(trace):
                sinks[name].add(row)
    finally:
        for sink in sinks.values():
            sink.close()
    return {sink.path.name: sink.num_rows for sink in sinks.values() if sink.num_rows}


_LOG_TABLES = {"curves": CURVES, "spectra": SPECTRA, "accuracies": ACCURACIES}


def observations(trace: Trace) -> Iterator[tuple[str, Row]]:
    """Every number in a trace's event log: the table that it belongs to, and its row."""
    who: Row = (trace.run, trace.slug, trace.seed)
    per_token = trace.flops_per_token
    tokens = seconds = 0.0
    for event in _events(trace.journal.path):
        step = _whole(event, "step")
        if event["kind"] == "step":
            taken, lasted = _value(event, "tokens") or 0, _value(event, "seconds") or 0
            tokens, seconds = tokens + taken, seconds + lasted
            place = (step, tokens, per_token * tokens if per_token else None, seconds)
            for name in _STEP:
                yield "curves", (*who, name, *place, _value(event, name))
            if taken and lasted:
                yield "curves", (*who, "tokens_per_second", *place, taken / lasted)
        elif event["kind"] == "evaluation":
            place = (step, tokens, per_token * tokens if per_token else None, seconds)
            for name, field in _EVALUATION:
                yield "curves", (*who, name, *place, _value(event, field))
            for accuracy in _objects(event.get("accuracies")):
                for name in _ACCURACY:
                    yield "accuracies", (*who, step, str(accuracy.get("lengths")), name, _value(accuracy, name))
            for spectrum in _objects(event.get("spectra")):
                where = (*who, step, _whole(spectrum, "layer"), str(spectrum.get("sublayer")))
                for name in SPECTRUM:
                    yield "spectra", (*where, name, _value(spectrum, name))
                for shares in _objects([spectrum.get("regime_share")]):
                    for name in REGIMES:
                        yield "spectra", (*where, f"share {name}", _value(shares, name))


def _value(fields: dict[str, Any], name: str) -> float | None:
    """A finite number, or None."""
    value = number_of(fields.get(name))
    return value if math.isfinite(value) else None


def _whole(fields: dict[str, Any], name: str) -> int | None:
    value = _value(fields, name)
    return None if value is None else int(value)


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none of whatever else stands there."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _events(path: Path) -> Iterator[dict[str, Any]]:
    journal = Journal(path)
    while True:
        _, events = journal.poll()
        yield from events
        if not events and not journal.behind:
            return


def _tables(exploration: Exploration) -> Iterator[Table]:
    several = len(exploration.experiments) > 1
    for experiment in exploration.experiments:
        prefix = f"{experiment.name}-" if several else ""
        for table in (ranking_table(experiment), cost_table(experiment), seeds_table(experiment)):
            yield table._replace(name=f"{prefix}{table.name.lower()}")
    for saved in exploration.benchmarks:
        yield benchmark_table(saved.record)._replace(name=saved.path.stem)


def write_table(table: Table, path: Path) -> None:
    """One table as CSV, a header and its rows; None is empty. StorageError from the disk."""
    _write(path, table.columns, table.rows)


def _write(path: Path, columns: Iterable[str], rows: Iterable[Row]) -> int:
    sink = _Sink(path, tuple(columns), always=True)
    try:
        for row in rows:
            sink.add(row)
    finally:
        sink.close()
    return sink.num_rows


class _Sink:
    """A CSV file that begins with its first row."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, always: bool = False) -> None:
        self.path, self.columns, self.num_rows = path, columns, 0
        self._file: Any = None
        if always:
            self._open()

    def _open(self) -> None:
        with storage_errors(self.path):
            self._file = self.path.open("w", newline="", encoding="utf-8", errors="replace")
            self._writer = csv.writer(self._file)
            self._writer.writerow(self.columns)

    def add(self, row: Row) -> None:
        if self._file is None:
            self._open()
        with storage_errors(self.path):
            self._writer.writerow(row)
        self.num_rows += 1

    def close(self) -> None:
        if self._file is not None:
            with storage_errors(self.path):
                self._file.close()
