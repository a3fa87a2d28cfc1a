"""The stand-alone blocks and their generators."""

from __future__ import annotations

import pytest
import torch

from deep_delta import (
    BetaBranch,
    DeltaBranches,
    DeltaNet,
    DeltaResidual,
    DeltaResidualExternal,
    KBranch,
    VBranch,
    delta_update,
)
from deep_delta.nn.branches import GateHead


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
def test_generators_and_blocks_take_any_leading_axes(leading: tuple[int, ...]) -> None:
    x = torch.randn(*leading, 6, 4)
    assert KBranch(6)(x).shape == (*leading, 6)
    assert BetaBranch(6, 5)(x).shape == (*leading, 1)
    assert VBranch(6, 4)(x).shape == (*leading, 4)
    assert [tensor.shape for tensor in DeltaBranches(6, 4)(x)] == [(*leading, 6), (*leading, 1), (*leading, 4)]
    assert DeltaResidual(6, 4)(x).shape == x.shape


def test_the_direction_is_a_unit_vector_and_the_gate_is_between_0_and_2() -> None:
    x = 10 * torch.randn(100, 6, 4)
    assert torch.allclose(KBranch(6)(x).norm(dim=-1), torch.ones(100), atol=1e-5)
    beta = BetaBranch(6)(x)
    assert ((beta > 0) & (beta < 2)).all()


@pytest.mark.parametrize("logit", [6.6, -6.6, 12.0])
@pytest.mark.parametrize("how", ["autocast", "autocast over bf16", "bf16 weights", "fp16 weights"])
@pytest.mark.parametrize("gate", ["BetaBranch", "GateHead", "GateHead with a hidden layer"])
def test_a_gate_reaches_neither_0_nor_2_in_half_precision(gate: str, how: str, logit: float) -> None:
    module = BetaBranch(6) if gate == "BetaBranch" else GateHead(6, hidden=5 if "hidden" in gate else None)
    torch.nn.init.zeros_(module.out.weight)
    torch.nn.init.constant_(module.out.bias, logit)
    dtype = {"bf16 weights": torch.bfloat16, "fp16 weights": torch.float16}.get(how)
    x = torch.randn(3, 6, 4) if gate == "BetaBranch" else torch.randn(3, 6)
    if dtype is not None:
        module, x = module.to(dtype), x.to(dtype)
    elif "over" in how:
        x = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is None):
        beta = module(x)
    expected = 2.0 * torch.sigmoid(torch.tensor(logit).to(dtype or torch.float32).float())
    assert 0 < expected < 2
    assert beta.dtype == torch.float32
    assert torch.allclose(beta, expected.expand_as(beta), rtol=1e-5)
    beta.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_gate_of_a_delta_net_stays_below_its_bound_with_half_precision_weights(dtype: torch.dtype) -> None:
    layer = DeltaNet(d_model=4, num_heads=2, neg_eigval=True).to(dtype)
    torch.nn.init.constant_(layer.beta.weight, 0.25 * 8.5)
    beta = layer._beta(torch.ones(1, 3, 4, dtype=dtype))
    assert beta.dtype == torch.float32
    assert torch.allclose(beta, 2.0 * torch.sigmoid(torch.tensor(8.5)).expand_as(beta), rtol=1e-5)
    assert (beta < 2).all()
    assert layer(torch.ones(1, 3, 4, dtype=dtype)).dtype == dtype


def test_the_block_is_the_update_with_what_it_says_it_used() -> None:
    block, x = DeltaResidual(6, 4, d_hidden=9), torch.randn(5, 6, 4)
    y, k, beta, v = block.forward_with_params(x)
    assert torch.equal(y, block(x))
    assert torch.allclose(
        y, x + beta.unsqueeze(-1) * k.unsqueeze(-1) * (v - (k.unsqueeze(-1) * x).sum(-2)).unsqueeze(-2)
    )
    assert torch.allclose(DeltaResidualExternal()(x, 3 * k, v, beta), y, atol=1e-6)


def test_every_generator_learns() -> None:
    block, x = DeltaResidual(6, 4), torch.randn(5, 6, 4)
    block(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in block.parameters())


def test_half_precision_and_compilation() -> None:
    block, x = DeltaResidual(6, 4), torch.randn(5, 6, 4)
    assert block.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    block = block.float()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), block(x), atol=1e-6)


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"x must be \[\.\.\., 6, 4\], got \(5, 4, 6\)"):
        DeltaResidual(6, 4)(torch.randn(5, 4, 6))
    with pytest.raises(ValueError, match="d_value must be at least 1, got 0"):
        DeltaResidual(6, 0)
    with pytest.raises(ValueError, match="share D"):
        DeltaResidualExternal()(torch.randn(6, 4), torch.randn(5), torch.randn(4), torch.ones(1))


def test_the_external_block_is_the_operator() -> None:
    x, k, v, beta = torch.randn(6, 4), torch.randn(6), torch.randn(4), torch.rand(1)
    assert torch.equal(DeltaResidualExternal(eps=1e-3)(x, k, v, beta), delta_update(x, k, v, beta, eps=1e-3))
