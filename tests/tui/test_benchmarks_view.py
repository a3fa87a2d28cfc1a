"""Benchmarks against a saved one."""

import pytest

from deep_delta.runs.benchmark import Benchmark
from deep_delta.tui.drawing.palette import palette
from deep_delta.tui.frame import paint
from deep_delta.tui.session import Session
from deep_delta.tui.views.benchmarks import whisker


@pytest.fixture
def saved(demo) -> Benchmark:
    return demo.benchmarks[0].record


def faster(benchmark, factor, *, drop=0):
    """The same rows, as they would be on a machine that is faster by a factor."""
    rows = []
    for row in benchmark.rows[drop:]:
        times = {name: getattr(row.seconds, name) / factor for name in ("median", "lower", "upper")}
        rows.append(row.model_copy(update={"seconds": row.seconds.model_copy(update=times)}))
    return benchmark.model_copy(update={"rows": tuple(rows)})


def shown(demo, baseline, width=140, **rest):
    session = Session(demo, view="benchmarks", baseline=baseline, baseline_name="before.json", **rest)
    return paint(session, width, 40, palette("dark")).canvas.text()


def test_without_a_baseline_there_is_no_gate(demo):
    assert "gate" not in shown(demo, None)
    assert "baseline  " in shown(demo, None)


def test_the_gate_passes_against_itself(demo, saved):
    text = shown(demo, saved)
    assert "gate: passes  against before.json" in text
    assert "time +0%" in text


def test_rows_that_became_slower_are_marked(demo, saved):
    text = shown(demo, faster(saved, 1.5))
    assert f"gate: fails, {len(saved.rows)} worse, 0 not compared" in text
    assert text.count("✗time +50%") == len(saved.rows)


def test_rows_that_are_gone_are_named(demo, saved):
    extra = saved.rows[0].model_copy(update={"name": "model/gone/fp32/small/step"})
    text = shown(demo, saved.model_copy(update={"rows": (*saved.rows, extra)}))
    assert "gate: fails, 0 worse, 1 not compared" in text
    assert "model/gone/fp32/small/step: no longer there" in text


def test_a_baseline_with_no_row_in_common_says_so(demo, saved):
    assert "none of the rows" in shown(demo, saved.model_copy(update={"rows": ()}))


def test_the_filter_leaves_rows(demo):
    text = shown(demo, None, pattern="cc")
    assert "ddl-cc-ec" in text
    assert "tokenconv" not in text


def test_a_narrow_screen_keeps_the_median(demo, saved):
    text = shown(demo, saved, width=40)
    assert "140 ms" in text
    assert "peak" not in text


def test_a_whisker_goes_from_quartile_to_quartile(saved):
    row = saved.rows[0]
    low, high = row.seconds.lower, row.seconds.upper
    assert whisker(row, low, high, 17) == "─" * 8 + "●" + "─" * 8
    assert whisker(row, low, low, 5)[0] in "●─"


def test_without_benchmarks_it_says_how_to_make_one(write_run):
    from deep_delta.explore import open_paths

    session = Session(open_paths([write_run("ddl", [1.0])]).read_all(), view="benchmarks")
    assert "no benchmark is open" in paint(session, 80, 24, palette("dark")).canvas.text()
