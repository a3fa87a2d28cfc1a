"""Effects of interventions: a model whose answers follow from its weights by hand, and intervals over documents."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from deep_delta.errors import ConfigError
from deep_delta.interventions import Subject, default_interventions, inspect_model, measure_interventions
from deep_delta.interventions.effects import Tally, estimate
from deep_delta.runs.inspection import Intervention, InterventionRow
from tests.interventions.known_model import (
    DECISIVE,
    WRITTEN,
    known_documents,
    known_kl,
    known_logits,
    known_loss,
    known_model,
)

WRITES = {
    "gate_0": 0.0,
    "gate_1": WRITTEN,
    "gate_2": 2 * WRITTEN,
    "gate_mean": WRITTEN,
    "gate_resampled": WRITTEN,
    "gate_at_most_1": WRITTEN,
    "erase_only": 0.0,
    "write_only": WRITTEN,
    "direction_of_layer": 0.0,  # that layer's k is 0
    "sublayer_removed": 0.0,
}
"""What the decisive sublayer writes after each change, β being 1 and kᵀX being 0 before."""


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(known_model(), known_documents())


@pytest.fixture(scope="module")
def rows(subject: Subject) -> list[InterventionRow]:
    return inspect_model(subject, default_interventions(subject.model.config, [1, 2])).interventions


def at(row: InterventionRow) -> tuple[Any, Any]:
    return row.intervention.layer, row.intervention.sublayer


def test_the_model_has_the_known_loss(subject: Subject) -> None:
    assert inspect_model(subject, []).loss == pytest.approx(known_loss(WRITTEN), rel=1e-8)


def test_the_table_whose_answers_are_known(rows: list[InterventionRow]) -> None:
    def difference(written: float) -> float:
        present, following, _ = known_logits(written)
        return following - present

    decisive = {row.intervention.what: row for row in rows if at(row) == DECISIVE}
    assert decisive.keys() == WRITES.keys() | {"direction_random"}
    for what, written in WRITES.items():
        effect = decisive[what].effect
        assert effect.loss.mean == pytest.approx(known_loss(written) - known_loss(WRITTEN), abs=1e-9), what
        assert effect.kl.mean == pytest.approx(known_kl(WRITTEN, written), abs=1e-9), what
        assert effect.logit_difference is not None
        assert effect.logit_difference.mean == pytest.approx(difference(written) - difference(WRITTEN), abs=1e-9), what
        assert decisive[what].size == pytest.approx(abs(WRITTEN - written) / math.sqrt(2), abs=1e-9), what
    for row in rows:
        if at(row) not in (DECISIVE, (None, None)):  # no other sublayer writes anything
            assert (row.size, row.effect.loss.mean, row.effect.kl.mean) == (0, 0, 0), row.intervention
            assert row.random_direction is None
    for row in rows:
        if at(row) == (None, None):
            assert abs(row.effect.loss.mean) < 1e-9  # β is 1 everywhere


def test_the_controls_of_the_known_model(rows: list[InterventionRow]) -> None:
    """Elsewhere there is nothing to change, an untrained model changes, and the whole sublayer is the gate at 0."""
    row = next(row for row in rows if at(row) == DECISIVE and row.intervention.what == "gate_0")
    assert row.random_layer is not None
    assert row.random_layer.sublayer == "mlp"
    assert row.random_layer.layer in (0, 2)
    assert row.random_layer.effect.loss.mean == 0
    assert row.untrained is not None
    assert row.untrained.effect.kl.mean > 1e-6
    assert row.random_direction is not None
    assert 0.01 < row.random_direction.effect.loss.mean < row.effect.loss.mean
    assert row.whole_sublayer == row.effect
    removed = next(row for row in rows if at(row) == DECISIVE and row.intervention.what == "sublayer_removed")
    assert removed.whole_sublayer is None
    assert removed.effect == row.effect


@pytest.mark.parametrize(
    ("where", "share"),
    [
        ({"positions": (0, 5, 11, 400)}, 3 / 12),
        ({"token_class": "even"}, 1 / 2),
        ({"token_class": "odd", "positions": tuple(range(6))}, 1 / 4),
    ],
    ids=str,
)
def test_an_intervention_at_some_tokens(where: dict[str, Any], share: float, subject: Subject) -> None:
    """Without attention each token's loss is its own, so the effect is that share of the whole."""
    one = Intervention(what="gate_0", layer=1, sublayer="mlp", **where)
    (row,) = measure_interventions(subject, [one])
    whole = known_loss(0) - known_loss(WRITTEN)
    assert row.effect.loss.mean == pytest.approx(share * whole, abs=1e-9)
    assert row.size == pytest.approx(share * math.sqrt(2), abs=1e-9)
    assert row.whole_sublayer is not None
    assert row.whole_sublayer.loss.mean == pytest.approx(share * whole, abs=1e-9)


def test_both_sublayers_of_a_layer_at_once(subject: Subject) -> None:
    (row,) = measure_interventions(subject, [Intervention(what="sublayer_removed", layer=1)])
    assert row.effect.loss.mean == pytest.approx(known_loss(0) - known_loss(WRITTEN), abs=1e-9)
    assert (row.size, row.random_direction, row.whole_sublayer) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"what": "gate_0", "layer": 3}, "layer 3: the model has the layers 0 to 2"),
        ({"what": "direction_of_layer", "layer": 0, "from_layer": 7}, "from_layer 7"),
        ({"what": "gate_0", "token_class": "vowel"}, "token_class must be one of even, odd, got 'vowel'"),
        ({"what": "gate_0", "positions": (12, 90)}, "none of the positions"),
    ],
    ids=str,
)
def test_what_the_model_does_not_have_is_refused(fields: dict[str, Any], message: str, subject: Subject) -> None:
    with pytest.raises(ConfigError, match=message):
        measure_interventions(subject, [Intervention(**fields)])


def test_an_interval_is_students() -> None:
    """scipy.stats.t.interval(0.95, 3, 2.5, sem) for 1, 2, 3, 4."""
    found = estimate([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.low == pytest.approx(0.445739743239121, abs=1e-4)
    assert found.high == pytest.approx(4.554260256760879, abs=1e-4)
    alone = estimate([1.5])
    assert (alone.mean, alone.low, alone.high) == (1.5, None, None)


def test_the_mean_is_over_documents_and_their_tokens() -> None:
    """Two documents of one and of three tokens weigh alike; one without a token does not count."""
    clean, patched = torch.full((4, 3), -math.log(3)), torch.tensor([[-1.0, -2.0, -3.0]]).log_softmax(-1).expand(4, 3)
    targets, document = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 2, 2, 2])
    tally = Tally(3)
    tally.add(clean, patched, targets, document)
    changes = -patched[0] - math.log(3)
    expected = (changes[0] + (2 * changes[1] + changes[2]) / 3) / 2
    assert tally.effect().loss.mean == pytest.approx(expected.item(), abs=1e-6)
    kl = (clean[0].exp() * (clean[0] - patched[0])).sum()
    assert tally.effect().kl.mean == pytest.approx(kl.item(), abs=1e-6)


def test_one_word_has_no_wrong_token() -> None:
    tally = Tally(1)
    tally.add(
        torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    )
    assert tally.effect().logit_difference is None
