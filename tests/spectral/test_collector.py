import json

import pytest
import torch
from torch import nn

from deep_delta import DdlTransformer, variant_config
from deep_delta.errors import ConfigError, NumericsError
from deep_delta.spectral import NothingToCollectError, SublayerSpectrum, collect, measure

GATED = ("ddl", "ddl-tokenconv", "ddl-ec", "ddl-cc", "ddl-cc-ec")
SIZE = {"d_model": 16, "num_layers": 3, "num_heads": 2, "vocab_size": 50, "max_seq_len": 32}


def build(slug: str = "ddl-cc", **fields) -> DdlTransformer:
    torch.manual_seed(0)
    return DdlTransformer(variant_config(slug, **SIZE, **fields))


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, SIZE["vocab_size"], (2, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("slug", GATED)
def test_one_record_per_sublayer(slug, ids):
    spectra = collect(build(slug), ids)
    assert [(one.layer, one.sublayer) for one in spectra] == [
        (layer, sublayer) for layer in range(3) for sublayer in ("mixer", "mlp")
    ]
    assert [one.alignment is None for one in spectra] == [True] + [False] * 5
    for one in spectra:
        assert one.tokens == ids.numel()
        assert sum(one.regime_share.values()) == pytest.approx(1.0)
        assert one.k_eigenvalue == pytest.approx(1 - one.beta_mean, abs=1e-4)


def test_the_gates_start_where_the_configuration_says(ids):
    model = build(beta_init=1.4)
    assert all(one.beta_mean == pytest.approx(1.4, abs=0.2) for one in collect(model, ids))


@pytest.mark.parametrize("slug", GATED)
def test_the_discrepancy_after_is_read_from_the_state_that_the_model_goes_on_with(slug, ids):
    """Against the model itself, and not the formula: the next observed state is this update's result."""
    model, seen = build(slug).double(), []
    model(ids, observe=lambda index, state, rewrite: seen.append((state, rewrite)))
    spectra = collect(model, ids)
    for one, (_, rewrite), (following, _) in zip(spectra, seen, seen[1:], strict=False):
        rest = measure(following.mT, *rewrite[:3], eps=model.config.k_eps)
        assert one.discrepancy_after == pytest.approx(rest.discrepancy_before, rel=1e-9)


@pytest.mark.parametrize("slug", GATED)
def test_the_model_answers_as_if_nothing_had_happened(slug, ids):
    model = build(slug)
    before = model(ids)
    collect(model, ids)
    assert torch.equal(model(ids), before)
    assert torch.equal(model(ids, observe=lambda *_: None), before)


@pytest.mark.parametrize("diverges", [False, True])
def test_modes_generators_and_gradients_come_back(diverges, ids):
    model = build()
    model.train()
    model.blocks[1].eval()
    if diverges:
        model.embedding.weight.data.fill_(torch.nan)
    modes = [module.training for module in model.modules()]
    model.blocks[0].register_forward_pre_hook(lambda *_: torch.rand(1) and None)
    generator = torch.get_rng_state()
    if diverges:
        with pytest.raises(NumericsError):
            collect(model, ids)
    else:
        collect(model, ids)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_runs_in_evaluation_mode_without_gradients(ids):
    model, seen = build().train(), []
    model.blocks[2].register_forward_hook(
        lambda module, _, output: seen.append((module.training, output[0].requires_grad))
    )
    collect(model, ids)
    assert seen == [(False, False)]


def test_a_model_in_half_precision_is_measured_in_single(ids):
    with torch.autocast("cpu", torch.bfloat16):
        half = collect(build(), ids)
    for one, exact in zip(half, collect(build(), ids), strict=True):
        assert one.beta_mean == pytest.approx(exact.beta_mean, rel=0.02)
        assert one.k_norm == pytest.approx(1.0, abs=1e-6)


def test_an_active_epsilon_shows_in_the_eigenvalue(ids):
    for one in collect(build(k_eps=1.0, beta_init=1.0), ids):
        assert one.k_norm < 0.99
        assert one.k_eigenvalue > 1 - one.beta_mean + 0.01


def test_write_only_has_gates_but_erases_nothing(ids):
    for one in collect(build(residual="write_only"), ids):
        assert one.beta_mean > 0
        assert one.k_eigenvalue == 1.0


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential()], ids=["linear", "sequential"])
def test_another_model_gives_nothing_to_collect(model, ids):
    with pytest.raises(NothingToCollectError, match=r"nothing to collect: (Linear|Sequential) is not a DdlTransformer"):
        collect(model, ids)


def test_the_additive_baseline_gives_nothing_to_collect(ids):
    with pytest.raises(ConfigError, match="nothing to collect: residual additive has no gates"):
        collect(build("baseline"), ids)


def test_hyper_connections_give_nothing_to_collect(ids):
    with pytest.raises(NothingToCollectError, match="nothing to collect: residual hyper has no gates"):
        collect(build(residual="hyper"), ids)


def test_a_diverged_model_is_named_by_layer_and_sublayer(ids):
    model = build()
    model.blocks[1].mlp.process.down.weight.data.fill_(torch.nan)
    with pytest.raises(NumericsError, match="layer 1 mlp: direction_norm is nan"):
        collect(model, ids)


def test_records_survive_json(ids):
    for one in collect(build(), ids):
        assert SublayerSpectrum.from_json(one.to_json(), error=ConfigError, where="here") == one
        assert json.loads(one.to_json())["sublayer"] == one.sublayer
