"""CSV tables: every observation once, and nothing overwritten."""

from __future__ import annotations

import csv
import json

import pytest

from deep_delta.errors import ConfigError
from deep_delta.explore import open_paths
from deep_delta.explore.export import ACCURACIES, CURVES, SPECTRA, export_csv
from tests.explore.conftest import step, write


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_logged_number_is_one_row(shown, tmp_path):
    written = export_csv(open_paths([shown]), tmp_path / "tables")
    assert set(written) == {"curves.csv", "spectra.csv", "ranking.csv", "cost.csv", "seeds.csv", "benchmark.csv"}
    curves = rows(tmp_path / "tables" / "curves.csv")
    assert len(curves) == written["curves.csv"] == 12 * (400 * 4 + 20 * 2)
    log = shown / "seed-1" / "ddl-ec" / "events.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    mine = [row for row in curves if (row["run"], row["variant"], row["seed"]) == ("seed-1", "ddl-ec", "1")]
    for measure in ("loss", "learning_rate", "grad_norm"):
        logged = [event[measure] for event in events if event["kind"] == "step"]
        assert [float(row["value"]) for row in mine if row["measure"] == measure] == logged
    validation = [row for row in mine if row["measure"] == "validation"]
    assert [int(row["step"]) for row in validation] == list(range(20, 401, 20))
    assert [float(row["tokens"]) for row in validation] == [1024.0 * number for number in range(20, 401, 20)]
    spectra = rows(tmp_path / "tables" / "spectra.csv")
    assert tuple(spectra[0]) == SPECTRA
    assert len({tuple(row[name] for name in SPECTRA[:-1]) for row in spectra}) == len(spectra)
    logged = next(event for event in events if event["kind"] == "evaluation")["spectra"][3]["k_eigenvalue"]
    key = {
        "run": "seed-1",
        "variant": "ddl-ec",
        "step": "20",
        "layer": "1",
        "sublayer": "mlp",
        "measure": "k_eigenvalue",
    }
    (found,) = [row for row in spectra if key.items() <= row.items()]
    assert float(found["value"]) == logged


def test_accuracies_and_names_with_commas(tmp_path):
    accuracy = {"lengths": "3-40", "overall": 0.75, "last": 0.5, "exact": 0.25}
    found = {
        "kind": "evaluation",
        "step": 1,
        "loss": 0.5,
        "bits_per_byte": None,
        "accuracies": [accuracy],
        "spectra": [],
    }
    write(tmp_path / 'a "run", odd' / "ddl" / "events.jsonl", [step(1), found])
    export_csv(open_paths([tmp_path / 'a "run", odd']), tmp_path / "tables")
    table = rows(tmp_path / "tables" / "accuracies.csv")
    assert tuple(table[0]) == ACCURACIES
    assert [(row["measure"], row["value"]) for row in table] == [
        ("overall", "0.75"),
        ("last", "0.5"),
        ("exact", "0.25"),
    ]
    assert table[0]["run"] == 'a "run", odd'
    assert rows(tmp_path / "tables" / "curves.csv")[-1] == {
        "run": 'a "run", odd', "variant": "ddl", "seed": "", "measure": "bits_per_byte", "step": "1", "tokens": "8.0",
        "flops": "", "seconds": "0.5", "value": "",
    }  # fmt: skip
    assert tuple(rows(tmp_path / "tables" / "curves.csv")[0]) == CURVES


def test_nothing_is_overwritten(shown, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        export_csv(open_paths([shown]), tmp_path)
    with pytest.raises(ConfigError, match="not empty"):
        export_csv(open_paths([shown]), tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"
