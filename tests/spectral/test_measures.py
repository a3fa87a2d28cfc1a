import math

import pytest
import torch

from deep_delta.errors import ConfigError, NumericsError
from deep_delta.ops import delta_operator, delta_update, normalize_direction
from deep_delta.spectral import REGIMES, measure
from deep_delta.spectral.measures import QUANTILES
from deep_delta.spectral.records import UpdateSpectrum

# B batch, T time, V value channels, D width
B, T, V, D = 3, 5, 4, 7


def tensors(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, k, v = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(B, T, D, V), (B, T, D), (B, T, V)]
    )
    beta = 2 * torch.rand(B, T, 1, generator=generator, dtype=torch.float64)
    return {"x": x.to(dtype), "k": 3 * k.to(dtype), "v": v.to(dtype), "beta": beta.to(dtype)}


def readout(k: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("btd,btdv->btv", k, x)


@pytest.mark.parametrize("eps", [0.0, 1e-6, 2.0], ids=["unit", "nearly unit", "active epsilon"])
def test_the_spectrum_is_that_of_the_dense_operator(eps):
    given = tensors()
    found = measure(**given, eps=eps)
    operator = delta_operator(given["k"], given["beta"], eps=eps)
    determinant = torch.linalg.det(operator)
    assert found.determinant == pytest.approx(determinant.mean().item(), abs=1e-12)
    assert found.k_eigenvalue == pytest.approx(determinant.mean().item(), abs=1e-12)
    assert found.lifted_determinant == pytest.approx((determinant**V).mean().item(), abs=1e-12)
    assert found.k_norm == pytest.approx(normalize_direction(given["k"], eps).norm(dim=-1).mean().item(), abs=1e-12)


@pytest.mark.parametrize("eps", [1e-6, 2.0])
def test_the_discrepancy_after_is_that_of_the_updated_state(eps):
    given = tensors()
    k = normalize_direction(given["k"], eps)
    after = delta_update(**given, eps=eps)
    found = measure(**given, eps=eps)
    assert found.discrepancy_before == pytest.approx((given["v"] - readout(k, given["x"])).norm(dim=-1).mean().item())
    assert found.discrepancy_after == pytest.approx((given["v"] - readout(k, after)).norm(dim=-1).mean().item())


def test_a_write_only_update_erases_nothing():
    given = tensors()
    k = normalize_direction(given["k"], 1e-6)
    after = given["x"] + (given["beta"] * k).unsqueeze(-1) * given["v"].unsqueeze(-2)
    found = measure(**given, erases=False)
    assert (found.k_eigenvalue, found.determinant, found.lifted_determinant) == (1.0, 1.0, 1.0)
    assert found.discrepancy_after == pytest.approx((given["v"] - readout(k, after)).norm(dim=-1).mean().item())
    assert found.beta_mean == measure(**given).beta_mean


def test_gates_and_norms():
    given = tensors()
    beta = given["beta"].flatten()
    found = measure(**given)
    assert found.tokens == B * T
    assert found.beta_mean == pytest.approx(beta.mean().item())
    assert found.beta_std == pytest.approx(beta.std(correction=0).item())
    for name, share in QUANTILES.items():
        assert getattr(found, name) == pytest.approx(beta.quantile(share).item())
    assert found.direction_norm == pytest.approx(given["k"].norm(dim=-1).mean().item())
    assert found.state_norm == pytest.approx(given["x"].norm(dim=(-2, -1)).mean().item())


def test_every_regime_has_its_share():
    given = tensors()
    given["beta"] = torch.tensor([0.1] * 3 + [0.5] * 3 + [1.0] * 3 + [1.5] * 6).view(B, T, 1)
    shares = measure(**given).regime_share
    assert list(shares) == list(REGIMES)
    assert list(shares.values()) == pytest.approx([0.2, 0.2, 0.2, 0.4, 0.0])


def test_alignment_ignores_length_and_sign_and_needs_a_previous_update():
    given = tensors()
    k = given["k"]
    assert measure(**given).alignment is None
    assert measure(**given, previous_k=-2 * k).alignment == pytest.approx(1.0)
    other = torch.zeros_like(k)
    other[..., 0], other[..., 1] = k[..., 1], -k[..., 0]
    assert measure(**given, previous_k=other).alignment == pytest.approx(0.0, abs=1e-12)
    assert measure(**given, previous_k=torch.zeros_like(k)).alignment == 0.0
    some = torch.roll(k, 1, dims=0)
    cosine = torch.cosine_similarity(k, some, dim=-1).abs().mean().item()
    assert measure(**given, previous_k=some, eps=3.0).alignment == pytest.approx(cosine)


@pytest.mark.parametrize("length", [0.0, 1e-30, 1e20])
def test_directions_of_any_length_are_measured(length):
    given = tensors(torch.float32)
    norm = given["k"].norm(dim=-1).mean().item()
    given["k"] = given["k"] * length
    found = measure(**given)
    assert found.direction_norm == pytest.approx(norm * length, rel=1e-5)
    assert found.k_norm == pytest.approx(1.0 if length > 1 else 0.0, abs=1e-6)


def test_half_precision_is_measured_in_single_precision_also_under_autocast():
    given = tensors(torch.bfloat16)
    exact = measure(**{name: tensor.double() for name, tensor in given.items()})
    with torch.autocast("cpu", torch.bfloat16):
        found = measure(**given)
    for name, value in found:
        if isinstance(value, float):
            assert value == pytest.approx(getattr(exact, name), rel=1e-5), name


def test_every_form_of_the_update_is_measured_alike():
    given = {name: tensor[..., :1] if name in "xv" else tensor for name, tensor in tensors().items()}
    vector = given | {"x": given["x"].squeeze(-1), "beta": given["beta"].squeeze(-1)}
    assert measure(**vector) == measure(**given)


def test_shapes_that_do_not_fit_are_named():
    given = tensors()
    with pytest.raises(ValueError, match=r"v must be \[..., V\] with V = 4 .* got \(3, 5, 3\)"):
        measure(**given | {"v": given["v"][..., :3]})


def test_a_gate_out_of_range_is_refused():
    given = tensors()
    with pytest.raises(ConfigError, match=r"beta must be in \[0, 2\]"):
        measure(**given | {"beta": 3 * torch.ones(B, T, 1)})


def test_one_token_has_no_spread():
    found = measure(**{name: tensor[:1, :1] for name, tensor in tensors().items()})
    assert (found.tokens, found.beta_std) == (1, 0.0)


def test_nothing_is_differentiated():
    given = {name: tensor.requires_grad_() for name, tensor in tensors().items()}
    measure(**given)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("beta", "beta_mean is"),
        ("x", "state_norm is"),
        ("k", "direction_norm is"),
        ("v", "discrepancy_before is"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_named(name, says, value):
    given = tensors()
    given[name].view(-1)[3] = value
    with pytest.raises(NumericsError, match=says):
        measure(**given)


def test_a_record_survives_json():
    found = measure(**tensors(torch.float32))
    assert UpdateSpectrum.from_json(found.to_json(), error=NumericsError, where="here") == found
