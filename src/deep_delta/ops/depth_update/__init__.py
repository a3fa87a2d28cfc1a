"""The delta update over depth and the dense operator behind it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from deep_delta.ops import device_kernels
from deep_delta.ops.depth_update import fused, op, reference
from deep_delta.ops.direction import compute_dtype, plain
from deep_delta.ops.dispatch import Backend, Choice, resolve
from deep_delta.ops.operands import check_tensors

__all__ = ["BACKENDS", "delta_operator", "delta_update", "explain_delta_update"]

op.KERNELS["fused"] = fused.KERNELS
op.KERNELS["triton"] = op.Kernels(
    device_kernels.when_called("deep_delta.ops.depth_update.triton", "forward"),
    device_kernels.when_called("deep_delta.ops.depth_update.triton", "backward"),
)

BACKENDS = (
    Backend(
        "reference",
        reference.delta_update,
        preferred=lambda _: "plain operations, which Inductor fuses" if torch.compiler.is_compiling() else None,
    ),
    Backend(
        "triton",
        functools.partial(op.run, "triton"),
        lambda x: device_kernels.unavailable(x, x.shape[-1]),
        lambda x: "one kernel each way" if x.is_cuda else None,
    ),
    Backend(
        "fused",
        functools.partial(op.run, "fused"),
        preferred=lambda _: "eager execution: one op with its own backward",
    ),
)
"""In the order in which "auto" asks them."""


def delta_update(
    x: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    *,
    normalize: bool = True,
    eps: float = 1e-6,
    backend: str = "auto",
) -> Tensor:
    """Rewrite the residual state along one direction: X' = X + β k (vᵀ − kᵀX)  (DDL, arXiv 2601.00417, Eq. 2.2).

    Reads the state along `k`, compares with the target `v` and writes back the gated difference. With e = kᵀX − vᵀ
    and a unit k: e' = (1 − β) e, so β = 0 leaves the state, β = 1 overwrites it exactly along k, β = 2 reflects it.

    Args:
        x: the state, [..., D, V]; or [..., D] (as many axes as `k`) for one value channel.
        k: the direction, [..., D]; normalised here in fp32 at least, k · rsqrt(Σk² + eps²), unless `normalize` is
            false. A zero direction gives the identity; entries of 1e20 are a direction like any other.
        v: the target readout, [..., V] ([..., 1] for the vector form).
        beta: the gate in [0, 2], [..., 1], or [...] with one axis fewer than `k`. Not checked: no pass over the data.
        normalize: false takes `k` as it is; then the eigenvalue along k is 1 − β‖k‖².
        eps: the length below which a direction counts as none; its square is added under the root. With ‖k‖ ≫ eps the
            direction is a unit vector to rounding; its gradient has a slope of 1/√(Σk² + eps²), 1/eps at zero.
        backend: "auto", "triton", "fused" or "reference"; see `deep_delta.ops.dispatch`.

    Leading axes broadcast at equal rank. Everything is computed in fp32 at least.

    Returns:
        The new state, of x's dtype and (broadcast) shape.

    Raises:
        ValueError: shapes do not fit; the message names them.
        TypeError: an input is not a floating-point tensor.
        BackendError: the backend is unknown or cannot run here; the message says why.
    """
    check_tensors(x=x, k=k, v=v, beta=beta)
    state, dtype = x if x.ndim > k.ndim else x.unsqueeze(-1), compute_dtype(x, k, v, beta)
    if dtype == torch.float64:  # of any operand: what computes in fp32 cannot take it
        state = state.new_empty((0, state.shape[-1]), dtype=dtype)
    chosen = resolve("delta_update", BACKENDS, backend, state).backend
    return chosen.run(x, k, v, beta, normalize=normalize, eps=eps)


def explain_delta_update(x: Tensor, backend: str = "auto") -> Choice:
    """The backend that `delta_update` would run on a state like `x`, [..., D, V], and why."""
    return resolve("delta_update", BACKENDS, backend, x)


def delta_operator(k: Tensor, beta: Tensor, *, normalize: bool = True, eps: float = 1e-6) -> Tensor:
    """The dense operator A = I − β k kᵀ that the update applies to the state  (DDL, Eq. 2.1).

    k [..., D], beta [..., 1] or [...]; returns [..., D, D] in fp32 at least. A has the eigenvalue 1 − β‖k‖² along k
    (1 − β for a unit k) and 1 on everything orthogonal to it. For analysis and tests: the update never builds it.
    """
    if beta.ndim == k.ndim - 1:
        beta = beta.unsqueeze(-1)
    if k.ndim == 0 or beta.ndim != k.ndim or beta.shape[-1] != 1:
        raise ValueError(
            f"beta must be [..., 1] or [...] beside k [..., D], got {tuple(beta.shape)} and {tuple(k.shape)}"
        )
    dtype = compute_dtype(k, beta)
    k = plain(k.to(dtype), eps) if normalize else k.to(dtype)
    identity = torch.eye(k.shape[-1], dtype=dtype, device=k.device)
    return identity - beta.to(dtype).unsqueeze(-1) * k.unsqueeze(-1) * k.unsqueeze(-2)
