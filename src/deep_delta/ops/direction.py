"""Turning any vector into a unit direction, safely."""

from __future__ import annotations

import torch
from torch import Tensor


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


def normalize_direction(k: Tensor, eps: float = 1e-6) -> Tensor:
    """k · rsqrt(Σk² + ε²), over the last axis, in fp32 at least (fp64 stays fp64).

    The result has norm ‖k‖/√(‖k‖² + ε²): 1 to rounding for any ‖k‖ well above ε, and 0 for k = 0.
    """
    k = k.to(compute_dtype(k))
    scale, norm = direction_norm(k, eps)
    return k / scale / norm
