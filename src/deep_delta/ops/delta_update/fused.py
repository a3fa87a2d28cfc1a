"""The delta update as one differentiable op with a hand-written backward (see README.md for the algebra).

Autograd of the definition keeps the broadcast products of every intermediate; this op keeps the inputs and one number
per value channel, and its backward makes one pass over the state for each gradient. It is a `torch.library` custom op,
so a compiled graph holds it whole (`fullgraph=True`); being opaque to Inductor, it is the choice for eager execution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deep_delta.ops.delta_update.shapes import matrix_form
from deep_delta.ops.direction import compute_dtype, direction_norm


def delta_update(x: Tensor, k: Tensor, v: Tensor, beta: Tensor, *, normalize: bool = True, eps: float = 1e-6) -> Tensor:
    """X + β k (vᵀ − kᵀX), computed in fp32 at least. Shapes as in `deep_delta.delta_update`."""
    x, k, v, beta, is_vector = matrix_form(x, k, v, beta)
    batch = torch.broadcast_shapes(x.shape[:-2], k.shape[:-1], v.shape[:-1], beta.shape[:-1])
    dtype = compute_dtype(x, k, v, beta)
    rewritten, _ = torch.ops.deep_delta.delta_update(
        _broadcast(x, batch, 2, dtype),
        _broadcast(k, batch, 1, dtype),
        _broadcast(v, batch, 1, dtype),
        _broadcast(beta, batch, 1, dtype),
        normalize,
        eps,
    )
    rewritten = rewritten.to(x.dtype)
    return rewritten.squeeze(-1) if is_vector else rewritten


def _broadcast(tensor: Tensor, batch: torch.Size, own: int, dtype: torch.dtype) -> Tensor:
    """Give every tensor the same leading axes; one that is really broadcast is widened first, so that its gradient is
    summed in the operator's precision."""
    shape = (*batch, *tensor.shape[-own:])
    return tensor if tensor.shape == shape else tensor.to(dtype).expand(shape)


@torch.library.custom_op("deep_delta::delta_update", mutates_args=())
def _forward(x: Tensor, k: Tensor, v: Tensor, beta: Tensor, normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
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


@_forward.register_fake
def _(x: Tensor, k: Tensor, v: Tensor, beta: Tensor, normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(v.shape, dtype=compute_dtype(x, k, v, beta))


@torch.library.custom_op("deep_delta::delta_update_backward", mutates_args=())
def _backward(
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


@_backward.register_fake
def _(
    grad: Tensor, x: Tensor, k: Tensor, beta: Tensor, error: Tensor, normalize: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(grad, dtype=x.dtype),
        k.new_empty(k.shape),
        torch.empty_like(error),
        beta.new_empty(beta.shape, dtype=error.dtype),
    )


def _unit(k: Tensor, normalize: bool, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The direction that is used, and what divides its gradient."""
    k = k.to(dtype)
    if not normalize:
        return k, k, k
    scale, norm = direction_norm(k, eps)
    return k / scale / norm, scale, norm


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, k, v, beta, normalize, eps = inputs
    ctx.save_for_backward(x, k, beta, output[1])
    ctx.normalize, ctx.eps, ctx.v_dtype = normalize, eps, v.dtype
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    x, k, beta, error = ctx.saved_tensors
    grad_x, grad_k, grad_v, grad_beta = torch.ops.deep_delta.delta_update_backward(
        grad, x, k, beta, error, ctx.normalize, ctx.eps
    )
    return grad_x, grad_k, grad_v.to(ctx.v_dtype), grad_beta.to(beta.dtype), None, None


_forward.register_autograd(_gradients, setup_context=_setup)
