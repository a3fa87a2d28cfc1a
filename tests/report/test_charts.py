"""What the charts hold: every point at its own x, gaps and spikes that stay, specifications that are Vega-Lite."""

from __future__ import annotations

import math

import pytest

from deep_delta.explore import open_paths
from deep_delta.report.chart import Chart, Detail
from deep_delta.report.curves import curve_chart
from deep_delta.report.drawing import compact
from deep_delta.report.packing import packed
from deep_delta.report.sections import charts_of
from deep_delta.report.style import COLOURS, SHAPES, styles
from tests.explore.conftest import step, write


def read(*paths):
    return open_paths(paths).read_all()


def charts(exploration, points=240, cells=900) -> dict[str, Chart]:
    looks = styles(variant.slug for variant in exploration.variants)
    found = [chart for one in exploration.experiments for chart in charts_of(one, looks, Detail(points, cells)).all()]
    assert len({chart.name for chart in found}) == len(found)
    return {chart.name: chart for chart in found}


def of(chart, slug, *names):
    """The rows of one variant, of these columns."""
    rows = zip(chart.columns["v"], *(chart.columns[name] for name in names), strict=True)
    return [row[1:] if len(names) > 1 else row[1] for row in rows if row[0] == slug]


@pytest.fixture(scope="module")
def made(runs):
    return charts(read(runs))


def test_there_is_a_chart_for_everything_that_was_logged(made):
    assert {"ranking", "validation", "loss", "bits-per-byte", "learning-rate", "grad-norm", "tokens-per-second"} < set(
        made
    )
    assert {"cost-parameters", "cost-flops", "cost-seconds", "validation-against-flops-of-training"} < set(made)
    assert {"depth-beta-mean", "beta-ddl", "regimes-ddl-cc-ec"} < set(made)
    assert "beta-baseline" not in made, "a baseline has no gates"


def test_evaluations_stand_at_their_own_steps(made):
    for slug in ("baseline", "ddl-ec"):
        assert of(made["validation"], slug, "x") == list(range(20, 401, 20))
    assert len(of(made["loss"], "ddl", "x")) == 240


def test_seeds_evaluated_at_other_steps_are_not_merged(tmp_path):
    evaluation = {"kind": "evaluation", "bits_per_byte": None, "accuracies": [], "spectra": []}
    for seed, steps in enumerate(([3, 6], [4, 5])):
        events = [{"kind": "started", "step": 0, "seed": seed}]
        for number in range(1, 7):
            events.append(step(number))
            if number in steps:
                events.append({**evaluation, "step": number, "loss": float(number)})
        write(tmp_path / f"seed-{seed}" / "ddl" / "events.jsonl", events)
    found = charts(read(tmp_path / "seed-0"))["validation"]
    assert of(found, "ddl", "x", "m") == [(3, 3.0), (6, 6.0)]
    exploration = read(tmp_path / "seed-0", tmp_path / "seed-1")
    looks = styles(["ddl"])
    found = [curve_chart(one, looks, "validation", "step", 240) for one in exploration.experiments]
    assert [of(chart, "ddl", "x", "m") for chart in found] == [[(3, 3.0), (6, 6.0)], [(4, 4.0), (5, 5.0)]]


def test_a_gap_stays_a_gap_and_what_is_not_finite_stays_visible(tmp_path):
    events = [step(1), step(2), step(5), step(6, loss=float("nan")), step(7), step(8)]
    write(tmp_path / "run" / "ddl" / "events.jsonl", events)
    chart = charts(read(tmp_path / "run"))["loss"]
    rows = of(chart, "ddl", "x", "m", "s", "b")
    assert [row[0] for row in rows] == [1, 2, 5, 6, 7, 8]
    assert [row[1] is None for row in rows] == [False, False, False, True, False, False]
    assert [row[3] for row in rows] == [0, 0, 0, 1, 0, 0]
    stretches = [row[2] for row in rows if row[1] is not None]
    assert stretches[0] == stretches[1] != stretches[2] != stretches[3] == stretches[4]
    assert "not finite" in chart.note


def test_one_spike_among_thousands_of_steps_stays_as_high(tmp_path):
    events = [step(number, loss=9.0 if number == 4711 else 1.0) for number in range(1, 6001)]
    write(tmp_path / "run" / "ddl" / "events.jsonl", events)
    chart = charts(read(tmp_path / "run"), points=100)["loss"]
    assert len(chart.columns["x"]) == 100
    assert max(chart.columns["h"]) == 9.0
    (where,) = [place for place, high in enumerate(chart.columns["h"]) if high == 9.0]
    assert chart.columns["x"][where - 1] < 4711 <= chart.columns["x"][where]


def test_a_variant_looks_the_same_in_every_chart_and_like_no_other(made):
    looks = styles(["ddl-ec", "mine", "baseline"])
    assert looks["baseline"] == styles(["baseline"])["baseline"]
    many = styles([f"v{number}" for number in range(20)])
    assert len(set(many.values())) == 20
    assert len(set(COLOURS)) == len(set(SHAPES)) == 8
    for chart in made.values():
        encoded = str(chart.spec)
        if "'field': 'v'" in encoded and "color" in encoded:
            assert str(list(COLOURS[:6])) in encoded


@pytest.mark.slow
def test_the_specifications_are_vega_lite(made):
    altair = pytest.importorskip("altair")
    for chart in made.values():
        altair.Chart.from_dict(chart.drawable(legend=True, background="white"))
        altair.Chart.from_dict({**chart.interactive(), "data": {"name": "rows"}})


def test_a_compact_picture_loses_no_number_and_no_cell():
    cells = "".join(f'<path d="M{x},0h10v5h-10Z" fill="rgb({x % 2}, 0, 0)"/>' for x in range(0, 60, 11))
    text = f'<svg width="60.123">{cells}<text opacity="0.85">0.0005</text><g clip-path="url(#clip1)"/></svg>'
    small = compact(text, "c7-")
    assert "0.0005" in small
    assert 'opacity="0.85"' in small
    assert 'width="60.1"' in small
    assert "url(#c7-clip1)" in small
    assert small.count("<path") == 2
    assert small.count("h10.5v5.5h-10.5z") == 6


@pytest.mark.parametrize("column", [[], [1.0], ["a", "b", "a"], [1, 1, 1], [True, True], [1.0, None, 2.5], [0, False]])
def test_packed_columns_hold_the_same(column):
    shown = packed(column)
    if isinstance(shown, dict) and "same" in shown:
        shown = [shown["same"]] * shown["n"]
    elif isinstance(shown, dict):
        shown = [shown["words"][place] for place in shown["at"]]
    assert shown == column
    assert not any(isinstance(one, float) and not math.isfinite(one) for one in shown)


def test_a_loss_that_was_never_finite_is_still_seen(tmp_path):
    write(tmp_path / "run" / "ddl" / "events.jsonl", [step(number, loss=float("nan")) for number in range(1, 5)])
    chart = charts(read(tmp_path / "run"))["loss"]
    assert len(chart.spec["layer"]) == 1
    assert chart.columns["b"] == [1, 1, 1, 1]
    assert not chart.zoomable


@pytest.mark.filterwarnings("error")
def test_a_loss_over_all_powers_of_ten_is_drawn_on_a_logarithmic_scale(tmp_path):
    losses = (1e-300, 1e300, 1.0)
    events = [step(number, loss=loss) for number, loss in enumerate(losses, start=1)]
    write(tmp_path / "run" / "ddl" / "events.jsonl", events)
    layers = charts(read(tmp_path / "run"))["loss"].spec["layer"]
    assert layers[1]["encoding"]["y"]["scale"] == {"type": "log"}
