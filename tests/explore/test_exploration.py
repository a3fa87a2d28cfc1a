"""Runs as they are opened: experiments, curves, gates, and notices for what is not as it should be."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from deep_delta.errors import CheckpointError, ConfigError, DataError
from deep_delta.explore import open_paths
from deep_delta.explore.tables import benchmark_table, cost_table, differences, gate, ranking_table, seeds_table
from deep_delta.runs.benchmark import Benchmark
from tests.explore.conftest import append, step, write


def evaluation(number, loss, **fields):
    return {"kind": "evaluation", "step": number, "loss": loss, "bits_per_byte": None, "accuracies": [], **fields}


def edit(path, change):
    """Change a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_seeds_are_pooled_and_ranked_as_compare_does(shown):
    exploration = open_paths([shown]).read_all()
    (experiment,) = exploration.experiments
    assert exploration.notices == []
    assert [len(variant.traces) for variant in experiment.variants] == [2] * 6
    table = ranking_table(experiment)
    by_loss = sorted(table.rows, key=lambda row: row[2])
    assert table.rows == by_loss
    assert "over all pairs" in table.note
    assert {row[0] for row in cost_table(experiment).rows} == {row[1] for row in table.rows}
    assert len(seeds_table(experiment).rows) == 12


def test_a_band_lies_between_its_seeds(shown):
    variant = open_paths([shown]).read_all().variants[2]
    one, other = (trace.line("validation").mean for trace in variant.traces)
    band = variant.band("validation")
    assert np.allclose(band.mean, (one + other) / 2)
    assert np.array_equal(band.low, np.minimum(one, other))
    assert np.array_equal(band.high, np.maximum(one, other))


def test_evaluations_stand_at_their_own_steps(variant):
    write(variant / "events.jsonl", [step(1), step(2), evaluation(2, 0.5), step(3), step(4), evaluation(4, None)])
    trace = open_paths([variant.parent]).read_all().traces[0]
    found = trace.line("validation")
    assert found.x.tolist() == [2, 4]
    assert found.mean[0] == 0.5
    assert found.bad.tolist() == [False, True]
    assert trace.line("validation", "tokens").x.tolist() == [16, 32]
    assert trace.line("validation", "seconds").x.tolist() == [1, 2]
    assert (trace.best_loss, trace.best_step) == (0.5, 2)


def test_flops_are_an_axis_only_where_they_are_known(variant):
    log = write(variant / "events.jsonl", [{"kind": "started", "step": 0}, step(1)])
    assert open_paths([variant.parent]).read_all().traces[0].axes() == ["step", "tokens", "seconds"]
    write(log, [{"kind": "started", "step": 0, "flops_per_token": 10}, step(1), step(2)])
    trace = open_paths([variant.parent]).read_all().traces[0]
    assert trace.line("loss", "flops").x.tolist() == [80, 160]


def test_spikes_nan_and_gaps_stay(variant):
    events = [step(number, loss=1.0) for number in range(1, 20_001)]
    events[12_344]["loss"] = 99.0
    events[15_000]["loss"] = math.nan
    del events[17_000:17_100]
    write(variant / "events.jsonl", events)
    line = open_paths([variant.parent]).read_all().traces[0].line("loss")
    assert line.size < 5000
    assert line.high.max() == 99
    assert line.bad.sum() == 1
    assert line.gap.sum() == 1
    assert line.start[line.bad] <= 15_001 <= line.x[line.bad]


def test_steps_that_go_back_are_said(variant):
    write(variant / "events.jsonl", [step(1), step(2), step(2), step(1), step(3)])
    exploration = open_paths([variant.parent]).read_all()
    assert exploration.traces[0].line("loss").x.tolist() == [1, 2, 3]
    assert any("2 events are of earlier steps" in notice for notice in exploration.notices)


def test_a_resumed_run_is_read_anew(variant):
    log = write(variant / "events.jsonl", [step(number, loss=9.0) for number in range(1, 11)])
    exploration = open_paths([variant.parent]).read_all()
    write(variant / "new", [*(step(number) for number in range(1, 5)), {"kind": "resumed", "step": 4}]).replace(log)
    append(log, [step(5)])
    assert exploration.poll()
    assert exploration.traces[0].line("loss").x.tolist() == [1, 2, 3, 4, 5]
    assert exploration.traces[0].line("loss").high.max() == 1


@pytest.mark.parametrize(
    ("last", "kind", "text"),
    [
        ({"kind": "finished", "step": 2}, "finished", "finished"),
        ({"kind": "stopped", "step": 2, "signal": "SIGINT"}, "stopped", "stopped after step 2: SIGINT"),
        ({"kind": "failed", "problem": "the loss is nan"}, "failed", "failed after step 2: the loss is nan"),
    ],
    ids=["finished", "stopped", "failed"],
)
def test_how_a_run_ended(variant, last, kind, text):
    write(variant / "events.jsonl", [step(1), step(2), last])
    assert open_paths([variant.parent]).read_all().traces[0].status == (kind, text)


def test_a_run_that_writes_and_one_that_has_stopped_writing(variant):
    log = write(variant / "events.jsonl", [{"kind": "started", "step": 0, "max_steps": 50}, step(1)])
    trace = open_paths([variant.parent]).read_all().traces[0]
    assert trace.status == ("running", "running, step 1 of 50")
    long_ago = time.time() - 3 * 3600
    os.utime(log, (long_ago, long_ago))
    trace.poll()
    assert trace.status == ("silent", "stopped writing 3 hours ago, at step 1 of 50")


def test_a_run_whose_process_is_gone_has_stopped_writing(variant):
    log = write(variant / "events.jsonl", [step(1)])
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (variant.parent / ".lock").write_text(f"{ended.pid}\n")
    os.utime(log, (time.time() - 30,) * 2)
    assert open_paths([variant.parent]).read_all().traces[0].status.kind == "silent"


def test_gates_of_a_long_run_stay_bounded_and_keep_their_ends(variant):
    def spectrum(value):
        return {
            "layer": 0,
            "sublayer": "mlp",
            "beta_mean": value,
            "alignment": None,
            "regime_share": {"interpolating": 1},
        }

    events = [evaluation(number, 1.0, spectra=[spectrum(number / 2000)]) for number in range(1, 2001)]
    write(variant / "events.jsonl", [step(1), *events])
    spectra = open_paths([variant.parent]).read_all().traces[0].spectra()
    assert spectra.labels == ("0 mlp",)
    assert len(spectra.steps) <= 256
    assert spectra.steps[-1] == 2000
    assert spectra.values["beta_mean"][-1, 0] == pytest.approx(1, abs=0.01)
    assert np.isnan(spectra.values["alignment"]).all()
    assert spectra.shares[0, 0, 1] == 1


def test_newer_versions_open_with_a_notice(shown, tmp_path):
    run = shutil.copytree(shown / "seed-0", tmp_path / "run")

    def change(content):
        content["format_version"] = 2
        content["invented"] = {"a": [1]}
        content["runs"][0]["also_new"] = None

    edit(run / "training_comparison.json", change)
    exploration = open_paths([run]).read_all()
    assert exploration.notices == [
        f"{run}/training_comparison.json was written by a newer version; it says format version 2; unknown fields are "
        "passed over: also_new, invented"
    ]
    assert exploration.experiments[0].ranking is not None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"runs": 3}', b"null", b"1e999"], ids=repr)
def test_a_damaged_comparison_leaves_the_logs(shown, tmp_path, content):
    run = shutil.copytree(shown / "seed-0", tmp_path / "run")
    (run / "training_comparison.json").write_bytes(content)
    exploration = open_paths([run]).read_all()
    assert len(exploration.notices) == 1
    assert "training_comparison.json" in exploration.notices[0]
    assert len(exploration.variants) == 6
    assert exploration.experiments[0].reason == "no ranking: a run has no training_comparison.json that can be read"
    assert ranking_table(exploration.experiments[0]).rows


def test_one_variant_of_a_run_or_several(shown):
    both = [shown / "seed-0" / "ddl", shown / "seed-0" / "baseline"]
    assert [variant.slug for variant in open_paths(both).variants] == ["baseline", "ddl"]
    assert len(open_paths([shown / "seed-0" / "ddl", shown / "seed-0"]).variants) == 6


def test_different_experiments_are_told_apart(shown, tmp_path, variant):
    write(variant / "events.jsonl", [step(1)])
    labels = [found.label for found in open_paths([shown, variant.parent]).variants]
    assert "demonstration/ddl" in labels
    assert "run/ddl" in labels
    assert len(set(labels)) == 7


def test_a_variant_that_begins_later_joins(variant):
    write(variant / "events.jsonl", [step(1)])
    exploration = open_paths([variant.parent]).read_all()
    write(variant.parent / "ddl-cc" / "events.jsonl", [step(1)])
    exploration._looked = -math.inf
    assert exploration.poll()
    assert [found.slug for found in exploration.variants] == ["ddl", "ddl-cc"]


def test_results_that_lie_in_a_run_are_found(shown):
    exploration = open_paths([shown])
    (saved,) = exploration.benchmarks
    table = benchmark_table(saved.record)
    assert len(table.rows) == 6
    slower = saved.record.rows[1]
    seconds = slower.seconds.model_copy(update={"median": 9.0, "lower": 8.0, "upper": 10.0})
    rows = (saved.record.rows[0], slower.model_copy(update={"seconds": seconds}), *saved.record.rows[2:])
    worse = saved.record.model_copy(update={"rows": rows})
    verdict = gate(worse, saved.record)
    assert not isinstance(verdict, str)
    judged = benchmark_table(worse, verdict)
    assert "worse" in judged.rows[1][-1]
    assert judged.note == f"the gate fails: 1 worse, first {slower.name}"
    assert benchmark_table(saved.record, gate(saved.record, saved.record)).note == "the gate passes"
    assert "none of the rows" in gate(saved.record, saved.record.model_copy(update={"rows": ()}))


def test_differences_between_configurations():
    table = differences({"a": {"x": 1, "y": None}, "b": {"x": 2, "y": None, "z": [1]}})
    assert table.rows == [("x", 1, 2), ("z", None, "[1]")]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda path: path / "nothing", ConfigError, "there is no"),
        (lambda path: path, CheckpointError, "is no run"),
        (lambda path: write(path / "x.json", [b"not json"]), DataError, "is damaged"),
        (lambda path: write(path / "x.json", [b""]), DataError, "is empty"),
        (lambda path: write(path / "x.json", [b"{}"]), DataError, "is no result of ddl"),
        (
            lambda path: write(path / "x.json", [b'{"rows": [], "ceilings": [], "capabilities": []}']),
            DataError,
            "cannot be shown",
        ),
    ],
    ids=["missing", "no run", "no JSON", "empty", "another", "incomplete"],
)
def test_what_cannot_be_shown_is_one_line(tmp_path, make, error, says):
    with pytest.raises(error, match=says) as raised:
        open_paths([make(tmp_path)])
    assert "\n" not in str(raised.value)


def test_a_run_without_events_is_one_line(shown, tmp_path):
    run = shutil.copytree(shown / "seed-0", tmp_path / "run")
    for folder in run.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    edit(run / "training_comparison.json", lambda content: content.update(runs=[]))
    with pytest.raises(DataError, match="no variant that has begun"):
        open_paths([run])


def test_random_damage_never_ends_the_looking(shown, tmp_path):
    rng = np.random.default_rng(5)
    log = (shown / "seed-0" / "ddl" / "events.jsonl").read_bytes()[:60_000]
    values = [b"null", b"true", b"-1", b"1e400", b'"x"', b"[]", b"{}", b"NaN", b"123456789012345678901234567890"]
    for number in range(40):
        damaged = bytearray(log)
        for _ in range(20):
            place = int(rng.integers(len(damaged)))
            if rng.random() < 0.5:
                damaged[place] = int(rng.integers(256))
            else:
                colon = damaged.find(b": ", place)
                end = min(damaged.find(mark, colon + 2) % len(damaged) for mark in (b",", b"}"))
                damaged[colon + 2 : end] = values[int(rng.integers(len(values)))]
        run = tmp_path / f"run-{number}"
        write(run / "ddl" / "events.jsonl", [bytes(damaged)])
        exploration = open_paths([run]).read_all()
        trace = exploration.traces[0]
        for measure in trace.measures():
            for axis in trace.axes():
                line = trace.line(measure, axis)
                assert np.isfinite(line.x).all()
                assert (np.diff(line.x) >= 0).all()
        trace.spectra()
        assert all("\n" not in notice for notice in exploration.notices)


def test_no_torch(shown):
    program = (
        "import sys; from deep_delta.explore import open_paths; import deep_delta.explore.export; "
        f"import deep_delta.explore.demonstration; open_paths([{str(shown)!r}]).read_all(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_demonstration_says_that_it_is_made_up(shown):
    benchmark = Benchmark.read(shown / "benchmark.json")
    assert "made up" in benchmark.load
    exploration = open_paths([shown])
    assert "made up" in exploration.experiments[0].comparisons[0].origin.hardware["processor"]
