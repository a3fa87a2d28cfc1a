"""The delta update in eager PyTorch with a hand-written backward (see README.md for the algebra).

Autograd of the definition keeps the broadcast products of every intermediate; these keep the inputs and one number
per value channel, and the backward makes one pass over the state for each gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deep_delta.ops.depth_update.op import Kernels
from deep_delta.ops.direction import compute_dtype, direction_norm


def forward(x: Tensor, k: Tensor, v: Tensor, beta: Tensor, normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(x, k, v, beta)
    k_D1 = _unit(k, normalize, eps, dtype)[0].unsqueeze(-1)
    x_DV = x.to(dtype)
    error_V = v - (k_D1 * x_DV).sum(-2)
    step_1V = (beta * error_V).unsqueeze(-2)
    out = torch.empty_like(x)
    if out.dtype == dtype:
        torch.addcmul(x_DV, k_D1, step_1V, out=out)
    else:
        out.copy_(torch.addcmul(x_DV, k_D1, step_1V))
    return out, error_V.to(dtype)


def backward(
    grad: Tensor, x: Tensor, k: Tensor, beta: Tensor, error: Tensor, normalize: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dtype = error.dtype
    beta = beta.to(dtype)
    unit, scale, norm = _unit(k, normalize, eps, dtype)
    k_D1, x_DV, grad_DV = unit.unsqueeze(-1), x.to(dtype), grad.to(dtype)
    pull_V = (k_D1 * grad_DV).sum(-2)  # kᵀG
    grad_v = beta * pull_V
    grad_beta = (error * pull_V).sum(-1, keepdim=True)
    grad_x = torch.addcmul(grad_DV, k_D1, grad_v.unsqueeze(-2), value=-1)
    grad_k = beta * (grad_DV * error.unsqueeze(-2) - x_DV * pull_V.unsqueeze(-2)).sum(-1)
    if normalize:
        grad_k = (grad_k - unit * (unit * grad_k).sum(-1, keepdim=True)) / scale / norm
    if k.dtype == torch.float16:  # near k = 0 the slope is 1/ε, beyond what fp16 can hold
        grad_k = grad_k.clamp(-65504.0, 65504.0)
    return grad_x.to(x.dtype), grad_k.to(k.dtype), grad_v, grad_beta


def _unit(k: Tensor, normalize: bool, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The direction that is used, and what divides its gradient."""
    k = k.to(dtype)
    if not normalize:
        return k, k, k
    scale, norm = direction_norm(k, eps)
    return k / scale / norm, scale, norm


KERNELS = Kernels(forward, backward)
