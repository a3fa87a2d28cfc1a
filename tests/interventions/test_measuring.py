"""Interventions on ordinary models: invariants, controls of the same size, and what depends on the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deep_delta import DdlConfig, DdlTransformer
from deep_delta.data.batches import IGNORED
from deep_delta.errors import ConfigError, DataError, NumericsError
from deep_delta.interventions import (
    Documents,
    Subject,
    default_interventions,
    inspect_model,
    measure_interventions,
    run_with,
    untrained,
    with_places,
)
from deep_delta.interventions import changes as changes_module
from deep_delta.interventions.changes import along_random, permuted, random_directions, rescaled
from deep_delta.runs.inspection import CHANGES, Intervention, InterventionRow
from tests.models.test_parts_take_effect import CONFIGURATIONS, build
from tests.tolerances import relative_error


def documents() -> Documents:
    """Four documents, one of two windows, and a window that ends early."""
    ids = np.random.default_rng(0).integers(0, 19, (5, 9))
    targets = ids[:, 1:].copy()
    targets[4, 3:] = IGNORED
    return Documents(
        ids[:, :-1], targets, np.array([0, 0, 1, 2, 3]), ("low", "high"), (ids[:, :-1] > 9).astype(np.int64)
    )


def subject(name: str) -> Subject:
    return Subject(build(name).double().eval(), documents())


def measured(name: str, *interventions: Intervention, **options: Any) -> list[InterventionRow]:
    return measure_interventions(subject(name), interventions, **options)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_default_intervention_on_every_kind_of_model(name: str) -> None:
    found = subject(name)
    quick = name not in ("ddl-ec", "write-only", "hyper")
    chosen = default_interventions(found.model.config, [1], quick=quick)
    rows = measure_interventions(found, chosen)
    assert [row.intervention for row in rows] == chosen
    for row in rows:
        assert row.effect.kl.mean > -1e-12
        if row.intervention.layer is not None and row.size:
            assert row.random_direction is not None
            assert row.untrained is not None
            assert row.effect.kl.mean > 1e-12
    gated = found.model.config.residual in ("delta", "write_only")
    expected = set(CHANGES) if gated else {"sublayer_removed"}
    if found.model.config.residual == "write_only":
        expected -= {"erase_only", "write_only"}
    if quick and gated:
        expected = {"gate_0", "gate_mean", "gate_at_most_1", "direction_random", "sublayer_removed"}
    assert {row.intervention.what for row in rows} == expected


def test_known_invariants_through_interventions() -> None:
    """Gate 0 is the sublayer removed; a write-only residual whose gate is 0 too; erasing alone at β = 0 nothing."""
    for name in ("ddl", "ddl-ec", "write-only", "v_map"):
        gate, removed = measured(
            name,
            Intervention(what="gate_0", layer=1, sublayer="mixer"),
            Intervention(what="sublayer_removed", layer=1, sublayer="mixer"),
        )
        assert gate.effect.loss.mean == pytest.approx(removed.effect.loss.mean, abs=1e-10)
        assert gate.whole_sublayer is not None
        assert gate.whole_sublayer.loss.mean == pytest.approx(gate.effect.loss.mean, abs=1e-10)


def test_resampling_by_the_identity_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Intervention(what="gate_resampled", layer=0, sublayer="mlp")
    (drawn,) = measured("ddl-ec", one)
    assert drawn.effect.kl.mean > 1e-9
    monkeypatch.setattr(changes_module, "permuted", lambda values, seed: values)
    (same,) = measured("ddl-ec", one)
    assert (same.size, same.effect.loss.mean, same.effect.kl.mean) == (0, 0, 0)


def test_resampled_gates_are_those_of_other_tokens_and_padding_keeps_its_own() -> None:
    values = torch.arange(50.0)
    assert torch.equal(permuted(values, 3).sort().values, values)
    assert not torch.equal(permuted(values, 3), values)
    assert torch.equal(permuted(values, 3), permuted(values, 3))


def test_the_seed_decides_what_is_drawn() -> None:
    one = Intervention(what="direction_random", layer=1, sublayer="mlp")
    again, same, other = (
        measured("ddl-ec", one)[0],
        measured("ddl-ec", one)[0],
        measured("ddl-ec", one.model_copy(update={"seed": 5}))[0],
    )
    assert again == same
    assert again.effect != other.effect
    resampled = [
        measured("ddl-ec", Intervention(what="gate_resampled", layer=0, sublayer="mlp", seed=s))[0] for s in (0, 1)
    ]
    assert resampled[0].effect != resampled[1].effect
    assert measured("ddl-ec", one, seed=0)[0].untrained != measured("ddl-ec", one, seed=1)[0].untrained


def test_nothing_outside_is_touched() -> None:
    found = subject("hybrid")
    found.model.train()
    before = {name: one.clone() for name, one in found.model.state_dict().items()}
    torch.manual_seed(3)
    inspect_model(found, default_interventions(found.model.config, [0], quick=True))
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    assert found.model.training
    assert all(torch.equal(before[name], one) for name, one in found.model.state_dict().items())
    assert all(not one._forward_pre_hooks for one in found.model.modules())


@pytest.mark.parametrize("name", ["ddl", "ddl-ec", "baseline", "hyper"])
def test_controls_change_the_state_by_as_much(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """‖ΔX‖/‖X‖ of each control at each token is that of the intervention."""
    found, sizes = subject(name), []
    clean = with_places(found.model, torch.from_numpy(documents().ids), ["*.hook_write", "*resid_pre", "*resid_mid"])
    before = Subject.run

    def run(self: Subject, window: Any, replacements: Any = ()) -> Any:
        places = [place for place, _ in replacements if place.endswith("hook_write")]
        if self is found and len(places) in (1, 2) and len(set(places)) == 1:
            home = places[0].removesuffix(".hook_write")
            state = f"blocks.{home.split('.')[1]}.hook_resid_{'pre' if home.endswith('mixer') else 'mid'}"

            def note(write: torch.Tensor) -> None:
                sizes.append((write - clean[places[0]]).norm(dim=(2, 3)) / clean[state].norm(dim=(2, 3)))

            replacements = [*replacements, (places[0], note)]
        return before(self, window, replacements)

    monkeypatch.setattr(Subject, "run", run)
    measure_interventions(found, [Intervention(what="sublayer_removed", layer=1, sublayer="mlp")])
    itself, direction, layer = sizes
    assert itself.min() > 1e-4
    assert relative_error(direction, itself) < 1e-9
    assert relative_error(layer, itself) < 1e-9


def test_changes_along_random_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    k = random_directions((3, 5, 16), generator)
    assert relative_error(k.norm(dim=-1), torch.ones(3, 5, dtype=k.dtype)) < 1e-14
    w = torch.randn(3, 5, 1, 4, dtype=torch.float64)
    change = k.unsqueeze(-1) * w
    other = along_random(change, generator)
    assert relative_error(other.norm(dim=(2, 3)), change.norm(dim=(2, 3))) < 1e-12
    gram, expected = other.mT @ other, w.mT @ w  # the same shares of the value channels, signs included
    assert relative_error(gram, expected) < 1e-10
    assert along_random(torch.zeros(1, 2, 4, 3), generator).abs().max() == 0


def test_a_change_made_another_size() -> None:
    clean, change = torch.randn(1, 3, 4, 2), torch.randn(1, 3, 4, 2)
    change[0, 1] = 0
    found = rescaled(clean + change, clean, torch.full((1, 3), 0.5)) - clean
    assert (found.norm(dim=(2, 3)) - torch.tensor([[0.5, 0.0, 0.5]])).abs().max() < 1e-5


def test_direction_of_a_layer_is_that_layers() -> None:
    """By hand: the increment k wᵀ with another k."""
    found = subject("ddl-ec")
    ids = torch.from_numpy(documents().ids)
    places = with_places(found.model, ids, ["*.hook_k", "*.hook_write"])
    w = torch.einsum("btdv,btd->btv", places["blocks.1.mlp.hook_write"], places["blocks.1.mlp.hook_k"])
    write = places["blocks.0.mlp.hook_k"].unsqueeze(-1) * w.unsqueeze(-2)
    with torch.no_grad():
        logits = run_with(found.model, ids, {"blocks.1.mlp.hook_write": write})
    (row,) = measure_interventions(
        found, [Intervention(what="direction_of_layer", layer=1, sublayer="mlp", from_layer=0)], controls=False
    )
    asked = torch.from_numpy(documents().asked)
    targets = torch.from_numpy(documents().targets)[asked]

    def loss(these: torch.Tensor) -> torch.Tensor:
        losses = torch.nn.functional.cross_entropy(these[asked], targets, reduction="none")
        rows = torch.from_numpy(documents().document).unsqueeze(1).expand(5, 8)[asked]
        return torch.stack([losses[rows == one].mean() for one in range(4)]).mean()

    with torch.no_grad():
        expected = loss(logits) - loss(found.model(ids))
    assert row.effect.loss.mean == pytest.approx(expected.item(), abs=1e-9)


def test_windows_may_come_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one = [
        Intervention(what="gate_mean", layer=1, sublayer="mlp"),
        Intervention(what="gate_resampled", layer=0, sublayer="mlp"),
    ]
    together = measured("ddl-ec", *one, controls=False)
    monkeypatch.setattr("deep_delta.interventions.subject._STATE_NUMBERS", 1)
    apart = measured("ddl-ec", *one, controls=False)
    for a, b in zip(together, apart, strict=True):
        assert a.effect.loss.mean == pytest.approx(b.effect.loss.mean, abs=1e-10)
        assert a.size == pytest.approx(b.size, rel=1e-9)


def test_an_untrained_model_has_the_configuration_and_other_parameters() -> None:
    model = build("hybrid").double()
    fresh = untrained(model)
    assert fresh.config == model.config
    assert next(fresh.parameters()).dtype == torch.float64
    assert not torch.equal(fresh.embedding.weight, model.embedding.weight)


def test_a_model_of_one_layer_has_no_other_layer() -> None:
    config = DdlConfig(d_model=8, num_layers=1, num_heads=2, vocab_size=19)
    found = Subject(DdlTransformer(config), documents())
    rows = measure_interventions(found, default_interventions(config, [0]))
    assert "direction_of_layer" not in {row.intervention.what for row in rows}
    assert all(row.random_layer is None for row in rows)
    assert any(row.untrained is not None for row in rows)


def test_what_cannot_be_is_refused() -> None:
    gate = Intervention(what="gate_0", layer=0, sublayer="mlp")
    with pytest.raises(ConfigError, match="gate_0 needs gates, and residual hyper has none"):
        measured("hyper", gate)
    with pytest.raises(ConfigError, match="residual write_only never erases"):
        measured("write-only", Intervention(what="erase_only"))
    with pytest.raises(DataError, match="no token is predicted"):
        Documents(np.zeros((1, 2)), np.full((1, 2), IGNORED), np.zeros(1), ("all",), np.zeros((1, 2)))
    broken = subject("ddl")
    broken.model.blocks[0].mixer.norm.weight.data.fill_(torch.nan)
    with pytest.raises(NumericsError, match="not finite"):
        measure_interventions(broken, [gate])
