"""The differentiable op behind the fused backends: one forward, one backward, PyTorch's registration, once.

A backend supplies two functions on plain tensors (`Kernels`). Written as `torch.library` ops, so that a compiled graph
holds them whole (`fullgraph=True`); being opaque to Inductor, they are the choice for eager execution.
"""

# D width, V value channels

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_delta.ops.depth_update.shapes import matrix_form
from deep_delta.ops.direction import compute_dtype
from deep_delta.ops.plain import first_derivative_only


class Kernels(NamedTuple):
    """One backend, on x [..., D, V], k [..., D], v [..., V], beta [..., 1] with equal leading axes."""

    forward: Callable[[Tensor, Tensor, Tensor, Tensor, bool, float], tuple[Tensor, Tensor]]
    """(x, k, v, beta, normalize, eps) → the new state in x's layout and δ = v − Xᵀk, [..., V]."""
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, bool, float], tuple[Tensor, Tensor, Tensor, Tensor]]
    """(grad, x, k, beta, δ, normalize, eps) → the gradients of x (grad's layout), k, v and beta (as δ)."""


KERNELS: dict[str, Kernels] = {}
"""By backend name; filled by the package."""


def run(
    name: str, x: Tensor, k: Tensor, v: Tensor, beta: Tensor, *, normalize: bool = True, eps: float = 1e-6
) -> Tensor:
    """X + β k (vᵀ − kᵀX) with a backend's kernels. Shapes as in `deep_delta.delta_update`."""
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
        name,
    )
    rewritten = rewritten.to(x.dtype)
    return rewritten.squeeze(-1) if is_vector else rewritten


def _broadcast(tensor: Tensor, batch: torch.Size, own: int, dtype: torch.dtype) -> Tensor:
    """Give every tensor the same leading axes; one that is really broadcast is widened first, so that its gradient is
    summed in the operator's precision."""
    shape = (*batch, *tensor.shape[-own:])
    return tensor if tensor.shape == shape else tensor.to(dtype).expand(shape)


@torch.library.custom_op("deep_delta::delta_update", mutates_args=())
def _forward(
    x: Tensor, k: Tensor, v: Tensor, beta: Tensor, normalize: bool, eps: float, name: str
) -> tuple[Tensor, Tensor]:
    return KERNELS[name].forward(x, k, v, beta, normalize, eps)


@_forward.register_fake
def _(x: Tensor, k: Tensor, v: Tensor, beta: Tensor, normalize: bool, eps: float, name: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(v.shape, dtype=compute_dtype(x, k, v, beta))


@torch.library.custom_op("deep_delta::delta_update_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, k: Tensor, beta: Tensor, error: Tensor, normalize: bool, eps: float, name: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return KERNELS[name].backward(grad, x, k, beta, error, normalize, eps)


@_backward.register_fake
def _(
    grad: Tensor, x: Tensor, k: Tensor, beta: Tensor, error: Tensor, normalize: bool, eps: float, name: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(grad, dtype=x.dtype),
        k.new_empty(k.shape),
        torch.empty_like(error),
        beta.new_empty(beta.shape, dtype=error.dtype),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, k, v, beta, normalize, eps, name = inputs
    ctx.save_for_backward(x, k, beta, output[1])
    ctx.normalize, ctx.eps, ctx.name, ctx.v_dtype = normalize, eps, name, v.dtype
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


@first_derivative_only
def _gradients(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    x, k, beta, error = ctx.saved_tensors
    grad_x, grad_k, grad_v, grad_beta = torch.ops.deep_delta.delta_update_backward(
        grad, x, k, beta, error, ctx.normalize, ctx.eps, ctx.name
    )
    return grad_x, grad_k, grad_v.to(ctx.v_dtype), grad_beta.to(beta.dtype), None, None, None


_forward.register_autograd(_gradients, setup_context=_setup)
