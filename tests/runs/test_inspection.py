"""An inspection is saved and read back whole; anything else is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.comparison import Origin
from deep_delta.runs.inspection import (
    CHANGES,
    Change,
    Control,
    DirectionReuse,
    Effect,
    Estimate,
    GateRow,
    InspectedModel,
    Inspection,
    Intervention,
    InterventionRow,
    RankRow,
)
from deep_delta.runs.manifest import DataIdentity

EFFECT = Effect(
    loss=Estimate(mean=0.1, low=0.0, high=0.2),
    logit_difference=Estimate(mean=-0.3, low=None, high=None),
    kl=Estimate(mean=0.1, low=0.05, high=0.15),
)
ROW = InterventionRow(
    intervention=Intervention(what="direction_of_layer", layer=1, sublayer="mlp", from_layer=0, positions=(0, 3)),
    size=0.2,
    effect=EFFECT,
    random_layer=Control(effect=EFFECT, layer=0, sublayer="mlp"),
    whole_sublayer=EFFECT,
)
INSPECTION = Inspection(
    date="2026-01-01T00:00:00Z",
    origin=Origin(versions={}, commit=None, hardware={}),
    model=InspectedModel(path="runs/β/step-4", variant="ddl-cc", seed=0, step=4, residual="delta"),
    data=DataIdentity(name="book.txt", sha256="0" * 64, tokenizer="byte", tokenizer_sha256="1" * 64),
    split="validation",
    documents=2,
    tokens=64,
    loss=2.5,
    gates=(
        GateRow(
            layer=0,
            sublayer="mixer",
            group="all",
            name="all",
            tokens=64,
            beta_mean=0.5,
            beta_std=0.1,
            share_above_1=0.0,
        ),
    ),
    directions=DirectionReuse(sublayers=((0, "mixer"),), cosines=((1.0,),), random=0.1),
    ranks=(RankRow(layer=0, place="pre", participation=1.5, entropy=1.6, d_value=4),),
    interventions=(ROW,),
)


def test_it_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "inspection.json"
    path.write_text(INSPECTION.to_json(), encoding="utf-8")
    assert Inspection.read(path) == INSPECTION
    assert '"kind": "inspection"' in path.read_text(encoding="utf-8")


def test_an_intervention_is_a_small_json() -> None:
    text = ROW.intervention.model_dump_json()
    assert len(text) < 200
    assert Intervention.from_json(text, error=DataError, where="here") == ROW.intervention


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"what": "gate_3"}, "gate_3"),
        ({"what": "gate_0", "layer": -1}, "layer"),
        ({"what": "gate_0", "from_layer": 1}, "from_layer"),
        ({"what": "direction_of_layer"}, "from_layer"),
        ({"what": "gate_0", "seed": -1}, "seed"),
        ({"what": "gate_0", "where": 1}, "where"),
    ],
)
def test_what_is_no_intervention_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Intervention(**fields)


def test_every_change_is_described() -> None:
    assert set(CHANGES) == set(get_args(Change))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match="no inspection"):
        Inspection.read(path)
    for content in ("", "{}", "[1", INSPECTION.to_json().replace('"format_version": 1', '"format_version": 2')):
        path.write_text(content)
        with pytest.raises(DataError, match=r"x\.json"):
            Inspection.read(path)
    with pytest.raises(DataError, match="no inspection"):
        Inspection.read(tmp_path)
