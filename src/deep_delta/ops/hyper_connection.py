"""Hyper-connections between two sublayers: write, then mix the streams and read them."""

# B batch, T time, N = B·T tokens, M = N·V, V streams, D width, P = V + 2 coefficients of a stream: of A_m, A_r, B

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops.plain import first_derivative_only, wants_plain


def hyper_connection(
    state: Tensor,
    direction: Tensor | None,
    value: Tensor | None,
    static: Tensor,
    dynamic: Tensor,
    scale: Tensor,
    *,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """H = state + value directionᵀ, then A_rᵀ H, A_mᵀ H and B  (hyper-connections, arXiv 2409.19606, Eqs. 10 to 13).

    (A_m | A_r | B) = static + (s_α … s_α s_β) ⊙ tanh(norm(H) dynamicᵀ), where norm(H) = H · rsqrt(mean(H²) + ε) over D.
    state: [B, T, V, D]. direction, value: what the sublayer before writes, [B, T, D] and [B, T, V]; None at the first.
    static: [V, V + 2]. dynamic: [V + 2, D]. scale: s_α and s_β, [2].
    Returns the mixed state A_rᵀ H and what the sublayer reads, A_mᵀ H, [B, T, V, D] and [B, T, D] in the state's dtype,
    and B [B, T, V], what its output will be written with.

    Everything between is fp32 at least, under autocast too: 1 + 0.01·tanh(…) has hardly a digit left in bf16. For the
    backward pass it keeps one state, in its dtype.
    """
    wide = torch.promote_types(torch.promote_types(state.dtype, static.dtype), torch.float32)
    with torch.autocast(state.device.type, enabled=False):
        inputs = state, direction, value, static.to(wide), dynamic.to(wide), scale.to(wide), eps
        return plain(*inputs) if wants_plain() else _HyperConnection.apply(*inputs)


def write(state: Tensor, direction: Tensor, value: Tensor) -> Tensor:
    """state + value directionᵀ, in the state's dtype; shapes as above."""
    wide = torch.promote_types(state.dtype, value.dtype)
    return torch.addcmul(state.to(wide), value.to(wide).unsqueeze(-1), direction.to(wide).unsqueeze(-2)).to(state.dtype)


def plain(
    state: Tensor,
    direction: Tensor | None,
    value: Tensor | None,
    static: Tensor,
    dynamic: Tensor,
    scale: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition; the coefficients' norm is divided out after their product."""
    if direction is not None and value is not None:
        state = write(state, direction, value)
    wide_BTVD = state.to(static.dtype)
    inverse_BTV1 = (wide_BTVD.square().mean(-1, keepdim=True) + eps).rsqrt()
    tanh_BTVP = torch.tanh(F.linear(wide_BTVD, dynamic) * inverse_BTV1)
    coefficients_BTVP = static + _scale_of_each(scale, static) * tanh_BTVP
    x_BT1D, mixed_BTVD = (coefficients_BTVP[..., :-1].mT @ wide_BTVD).to(state.dtype).split((1, len(static)), dim=2)
    return mixed_BTVD, x_BT1D.squeeze(2), coefficients_BTVP[..., -1]


def _scale_of_each(scale: Tensor, static: Tensor) -> Tensor:
    """s_α for A_m and A_r, s_β for B: [P]."""
    return torch.cat((scale[:1].expand(static.shape[1] - 1), scale[1:]))


class _HyperConnection(torch.autograd.Function):
    """In batches of small products, each of which passes over the state once."""

    @staticmethod
    def forward(
        ctx: Any,
        state: Tensor,
        direction: Tensor | None,
        value: Tensor | None,
        static: Tensor,
        dynamic: Tensor,
        scale: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        B, T, V, D = state.shape
        if direction is not None and value is not None:
            state = write(state, direction, value)
        state_NVD = state.to(static.dtype).reshape(B * T, V, D)
        inverse_NV1 = (torch.linalg.vector_norm(state_NVD, dim=-1, keepdim=True).square() / D + eps).rsqrt()
        logits_NVP = F.linear(state_NVD, dynamic) * inverse_NV1
        coefficients_NVP = torch.addcmul(static, _scale_of_each(scale, static), logits_NVP.tanh())
        x_N1D = torch.bmm(coefficients_NVP[..., :1].mT, state_NVD)
        mixed_NVD = torch.bmm(coefficients_NVP[..., 1:-1].mT, state_NVD)
        ctx.save_for_backward(
            state, direction, value, static, dynamic, scale, inverse_NV1, logits_NVP, coefficients_NVP
        )
        return (
            mixed_NVD.to(state.dtype).view(B, T, V, D),
            x_N1D.to(state.dtype).view(B, T, D),
            coefficients_NVP[..., -1].reshape(B, T, V),
        )

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad_mixed: Tensor, grad_x: Tensor, grad_value: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad_mixed.device.type, enabled=False):
            return _pull(ctx.saved_tensors, grad_mixed, grad_x, grad_value)


def _pull(saved: tuple[Any, ...], grad_mixed: Tensor, grad_x: Tensor, grad_value: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of every input of `_HyperConnection`, from those of its outputs."""
    state, direction, value, static, dynamic, scale, inverse_NV1, logits_NVP, coefficients_NVP = saved
    (B, T, V, D), wide = state.shape, static.dtype
    state_NVD = state.to(wide).reshape(B * T, V, D)
    mixed_NVD, x_N1D = grad_mixed.to(wide).reshape(B * T, V, D), grad_x.to(wide).reshape(B * T, 1, D)

    of_read, of_mix = torch.bmm(state_NVD, x_N1D.mT), torch.bmm(state_NVD, mixed_NVD.mT)
    pulled_NVP = torch.cat((of_read, of_mix, grad_value.reshape(B * T, V, 1)), dim=-1)
    tanh_NVP = logits_NVP.tanh()
    scale_P = (pulled_NVP * tanh_NVP).sum((0, 1))
    logits_grad_NVP = pulled_NVP * _scale_of_each(scale, static) * (1 - tanh_NVP.square())
    shrink_NV1 = (logits_grad_NVP * logits_NVP).sum(-1, keepdim=True) * inverse_NV1.square() / -D
    product_MP = (logits_grad_NVP * inverse_NV1).flatten(0, 1)

    grad_NVD = torch.bmm(coefficients_NVP[..., 1:-1], mixed_NVD)
    grad_NVD.addcmul_(coefficients_NVP[..., :1], x_N1D).addcmul_(shrink_NV1, state_NVD)
    grad_NVD.flatten(0, 1).addmm_(product_MP, dynamic)
    grad_direction = grad_written = None
    if direction is not None and value is not None:
        along_N1D, written_N1V = direction.to(wide).reshape(B * T, 1, D), value.to(wide).reshape(B * T, 1, V)
        grad_direction = torch.bmm(written_N1V, grad_NVD).view(B, T, D).to(direction.dtype)
        grad_written = torch.bmm(grad_NVD, along_N1D.mT).view(B, T, V).to(value.dtype)
    return (
        grad_NVD.view(B, T, V, D).to(state.dtype),
        grad_direction,
        grad_written,
        pulled_NVP.sum(0),
        product_MP.T @ state_NVD.reshape(-1, D),
        torch.stack((scale_P[:-1].sum(), scale_P[-1])),
        None,
    )
