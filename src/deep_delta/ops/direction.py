"""Turning any vector into a unit direction, safely."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deep_delta.ops.plain import first_derivative_only, wants_plain


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """The precision that operators work in: the widest of their inputs, and fp32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def direction_norm(k: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """A scale s and the norm of k/s, both [..., 1], with √(Σk² + ε²) = s · norm.

    s = max(max|k|, ε) keeps every square within range: entries of 1e20 overflow no sum and entries of 1e-20 vanish in
    none. s carries no gradient and needs none, because the product does not depend on it.
    """
    scale = k.detach().abs().amax(-1, keepdim=True).clamp_min(eps)
    scale = scale + (scale == 0)  # k = 0 with ε = 0
    square = (k / scale).square().sum(-1, keepdim=True) + (eps / scale).square()
    return scale, (square + (square == 0)).sqrt()


def inverse_norm(k: Tensor, eps: float) -> Tensor:
    """1/√(Σk² + ε²), [..., 1] in k's dtype, with no square out of range; 0 for k = 0 with ε = 0.

    In fp32 the sum is taken in fp64, whose range holds any square of fp32; where there is no fp64, by `direction_norm`.
    """
    if k.dtype == torch.float64 or k.device.type == "mps":
        scale, norm = direction_norm(k, eps)
        return 1.0 / scale / norm
    norm = torch.linalg.vector_norm(k, dim=-1, keepdim=True, dtype=torch.float64)
    square = norm.square() + eps * eps
    return (square + (square == 0)).rsqrt().to(k.dtype)


def normalize_direction(k: Tensor, eps: float = 1e-6, fade: float = 0.0) -> Tensor:
    """k · rsqrt(Σk² + ε²), over the last axis, in fp32 at least (fp64 stays fp64).

    The result has norm ‖k‖/√(‖k‖² + ε²): 1 to rounding for any ‖k‖ well above ε, and 0 for k = 0. What is added under
    the root is ε², not ε: ε is the length below which a direction counts as none. The slope is 1/√(Σk² + ε²), so 1/ε
    at k = 0. Where the root is below `fade`, the gradient fades in proportion to Σk², to none at k = 0: the slope is
    then 1/fade at most. With ε ≥ fade nothing fades.
    """
    k = k.to(compute_dtype(k))
    return plain(k, eps, fade) if wants_plain() else _Normalize.apply(k, eps, fade)


def plain(k: Tensor, eps: float, fade: float = 0.0) -> Tensor:
    """The definition, in k's dtype, which is fp32 at least; squares are within range as in `inverse_norm`."""
    if fade > eps:
        fixed = k.detach()
        k = fixed + (k - fixed) * faded(inverse_norm(fixed, eps), eps, fade)  # k, with another gradient
    if k.dtype == torch.float64 or k.device.type == "mps":
        scale, norm = direction_norm(k, eps)
        return k / scale / norm
    square = k.double().square().sum(-1, keepdim=True) + eps * eps
    return k * (square + (square == 0)).rsqrt().to(k.dtype)


def faded(inverse: Tensor, eps: float, fade: float) -> Tensor:
    """By what the gradient of a direction is multiplied, from 1/√(Σk² + ε²): exactly 1 where that is at most 1/fade."""
    return ((inverse.square().reciprocal() - eps * eps) / (fade * fade - eps * eps)).clamp(0.0, 1.0)


class _Normalize(torch.autograd.Function):
    """Keeps k and one number a row; dk̃ = (dk − k (k · dk)) / √(Σk̃² + ε²)."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, eps: float, fade: float) -> Tensor:
        inverse = inverse_norm(k, eps)
        ctx.eps, ctx.fade = eps, fade
        ctx.save_for_backward(k, inverse)
        return k * inverse

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        k, inverse = ctx.saved_tensors
        unit = k * inverse
        along = (unit * grad).sum(-1, keepdim=True)
        slope = inverse * faded(inverse, ctx.eps, ctx.fade) if ctx.fade > ctx.eps else inverse
        return torch.addcmul(grad, unit, along, value=-1).mul_(slope), None, None
