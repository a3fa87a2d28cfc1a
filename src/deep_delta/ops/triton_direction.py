"""Normalising a direction inside a Triton kernel. Imports Triton: only the kernels' modules import this one."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def direction_scale(k, eps):
    """s = max(max|k|, ε), or 1 for k = 0 without ε: k/s has no square out of range."""
    scale = tl.maximum(tl.max(tl.abs(k)), eps)
    return tl.where(scale == 0.0, 1.0, scale)


@triton.jit
def direction_inverse(square, scale, eps):
    """1/‖k/s‖ from Σ(k/s)², with ε under the root."""
    small = tl.div_rn(eps, scale)
    square += small * small
    return tl.div_rn(1.0, tl.sqrt_rn(tl.where(square == 0.0, 1.0, square)))


@triton.jit
def direction(k, eps):
    """The unit direction k̃/√(Σk̃² + ε²), and that factor as (1/s, 1/‖k̃/s‖ with ε)."""
    scale = direction_scale(k, eps)
    k = tl.div_rn(k, scale)
    inverse = direction_inverse(tl.sum(k * k), scale, eps)
    return k * inverse, scale, inverse


@triton.jit
def saturated(grad, like):
    """In fp16 the slope near k = 0, 1/ε, is out of range and saturates; what is not a number stays so."""
    if like.dtype.element_ty == tl.float16:
        grad = tl.where(grad > 65504.0, 65504.0, tl.where(grad < -65504.0, -65504.0, grad))
    return grad
