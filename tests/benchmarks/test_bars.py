from __future__ import annotations

import math

import pytest

from deep_delta.benchmarks.bars import standings
from deep_delta.runs.benchmark import Crossing, Growth
from tests.benchmarks.conftest import benchmark, row

BASE = "model/baseline/eager/fp32/small-V4-B4T256/forward_backward"
CC = "model/ddl-cc-ec/eager/fp32/small-V4-B4T256/forward_backward"


@pytest.mark.parametrize(("relative", "holds"), [(1.05, True), (1.2, False)], ids=str)
def test_speed_stands_beside_its_bar_and_the_released_code(relative, holds):
    rows = [row(BASE, relative_to=BASE), row(CC, relative=relative, relative_to=BASE)]
    (found,) = standings(benchmark(*rows))
    assert (found.bar.bar, found.bar.released, found.against, found.holds) == (0.92, 0.62, "baseline", holds)
    assert found.value == pytest.approx(1 / relative)


def test_saved_memory_is_a_ratio_to_the_baselines():
    rows = [row(BASE, relative_to=BASE, saved_bytes=100), row(CC, relative_to=BASE, saved_bytes=135)]
    assert [one.value for one in standings(benchmark(*rows)) if one.bar.measure == "saved"] == [1.35]


def test_a_ratio_to_another_peer_is_no_figure_for_the_bar():
    ours, theirs = (
        f"peers/delta_rule/{who}/fp32/B2H8T1024K64/forward_backward" for who in ("deep_delta", "transformers")
    )
    other = theirs.replace("transformers", "sdpa")
    met = standings(benchmark(row(theirs, relative_to=theirs), row(ours, relative=0.5, relative_to=theirs)))
    assert [(one.against, one.value, one.holds) for one in met] == [("transformers", 0.5, True)]
    assert standings(benchmark(row(other, relative_to=other), row(ours, relative=0.5, relative_to=other))) == []


def test_growth_and_crossings_have_bars_too():
    growth = Growth(name="growth/T/chunk_delta_rule", axis="T", sizes=(1, 2), seconds=(1, 2), exponent=1.2, counted=1.0)
    name, other = "peers/delta_rule/deep_delta/fp32", "peers/delta_rule/sdpa/fp32"
    never = Crossing(name=name, other=other, sizes=(8,), ratios=(2.0,), first=None)
    found = standings(benchmark(growth=(growth,), crossings=(never,)))
    assert [(one.value, one.holds) for one in found] == [(1.2, False), (math.inf, False)]


def test_rows_of_a_loaded_machine_are_held_against_nothing():
    assert standings(benchmark(row(BASE, relative_to=BASE), row(CC, relative_to=BASE, loaded=True))) == []
    assert standings(benchmark(row(BASE, relative_to=BASE, loaded=True), row(CC, relative_to=BASE))) == []


def test_bars_of_a_processor_are_not_held_against_a_gpu():
    rows = [row(BASE, relative_to=BASE), row(CC, relative=2.0, relative_to=BASE)]
    assert standings(benchmark(*rows, hardware={"device": "cuda:0"})) == []
