"""The stand-alone blocks and their generators."""

from __future__ import annotations

import pytest
import torch

from deep_delta import BetaBranch, DeltaBranches, DeltaResidual, DeltaResidualExternal, KBranch, VBranch, delta_update


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
