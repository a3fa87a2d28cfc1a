from __future__ import annotations

import pytest

from deep_delta.benchmarks.gate import judge, require_same_machine
from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.benchmark import Unmeasured
from tests.benchmarks.conftest import benchmark, row

A, B = "operator/a/forward", "operator/b/forward"


def verdict(now, before, **options):
    return judge(benchmark(*now), benchmark(*before), **{"tolerance": 0.15, **options})


def test_the_same_again_passes():
    found = verdict([row(A), row(B)], [row(A), row(B)])
    assert found.passes
    assert len(found.changes) == 2


def test_a_slowdown_beyond_the_tolerance_is_named_with_before_and_after():
    found = verdict([row(A, 1.3), row(B)], [row(A), row(B)])
    assert not found.passes
    assert [(one.name, one.kind, one.before, one.after) for one in found.regressions] == [(A, "time", 1.0, 1.3)]
    assert found.regressions[0].growth == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("seconds", "spread"), [(1.1, 0.01), (1.3, 0.3), (0.5, 0.01)], ids=["small", "noisy", "faster"]
)
def test_what_is_within_the_tolerance_or_the_spread_passes(seconds, spread):
    assert verdict([row(A, seconds, spread=spread)], [row(A)]).passes


def test_a_ratio_that_rises_fails_even_where_the_time_fell():
    before = [row(A, 2.0), row(B, 2.0, relative=1.0, relative_to=A)]
    now = [row(A, 1.0), row(B, 1.5, relative=1.5, relative_to=A)]
    assert [one.kind for one in verdict(now, before).regressions] == ["ratio"]
    assert verdict(now, before, kinds=["time", "memory"]).passes


def test_a_ratio_to_something_else_is_not_compared():
    assert verdict([row(B, relative=9.0, relative_to=A)], [row(B, relative_to="operator/c/forward")]).passes


@pytest.mark.parametrize("figure", ["peak_bytes", "saved_bytes"])
def test_more_memory_fails(figure):
    now, before = [row(A, **{figure: 1_300_000})], [row(A, **{figure: 1_000_000})]
    assert [one.figure for one in verdict(now, before).regressions] == [figure.replace("_", " ")]
    assert verdict([row(A, **{figure: 1_100_000})], before).passes
    assert verdict([row(A, **{figure: 900})], [row(A, **{figure: 0})]).passes  # a few scalars are no regression


def test_a_row_that_disappeared_is_named():
    found = verdict([row(B)], [row(A), row(B)])
    assert not found.passes
    assert found.missing == {A: "no longer there"}
    assert verdict([row(B)], [row(A), row(B)], covers=lambda one: one.name == B).passes


def test_a_row_that_was_refused_is_named_with_the_reason():
    refused = Unmeasured(name="operator/a", reason="something else kept 1.0 cores busy", kind="loaded")
    found = judge(benchmark(row(B), unmeasured=(refused,)), benchmark(row(A), row(B)), tolerance=0.15)
    assert found.missing == {A: refused.reason}


@pytest.mark.parametrize("loaded", [(True, False), (False, True)], ids=["now", "before"])
def test_a_loaded_row_never_passes(loaded):
    found = verdict([row(A, loaded=loaded[0])], [row(A, loaded=loaded[1])])
    assert not found.passes
    assert found.missing[A].startswith("measured under load")


def test_nothing_in_common_is_an_error():
    with pytest.raises(DataError, match="none of the rows"):
        verdict([row(A)], [row(B)], covers=lambda one: False)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("processor", "Q", "processor P"), ("threads", "2", "number of threads 1"), ("gpu", "H200", "GPU none")],
    ids=str,
)
def test_another_machine_is_refused(field, value, says):
    here = benchmark().origin.hardware
    require_same_machine(benchmark(), {**here, "cores": "64"}, "old.json")
    with pytest.raises(ConfigError, match=rf"old.json has {says} and this run has {value}; .*--any-device"):
        require_same_machine(benchmark(), {**here, field: value}, "old.json")
    require_same_machine(benchmark(hardware={"device": "cuda"}), {**here, "device": "cuda:0"}, "old.json")
