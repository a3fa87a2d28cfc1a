"""The definition of the delta update, in plain PyTorch. Every other backend is tested against it."""

from __future__ import annotations

from torch import Tensor

from deep_delta.ops.depth_update.shapes import matrix_form
from deep_delta.ops.direction import compute_dtype, plain


def delta_update(x: Tensor, k: Tensor, v: Tensor, beta: Tensor, *, normalize: bool = True, eps: float = 1e-6) -> Tensor:
    """X + β k (vᵀ − kᵀX), computed in fp32 at least. Shapes as in `deep_delta.delta_update`."""
    x, k, v, beta, is_vector = matrix_form(x, k, v, beta)
    dtype = compute_dtype(x, k, v, beta)
    k = k.to(dtype)
    k_D1 = (plain(k, eps) if normalize else k).unsqueeze(-1)
    readout_1V = (k_D1 * x).sum(-2, keepdim=True)
    rewritten = x + beta.to(dtype).unsqueeze(-1) * k_D1 * (v.unsqueeze(-2) - readout_1V)
    rewritten = rewritten.to(x.dtype)
    return rewritten.squeeze(-1) if is_vector else rewritten
