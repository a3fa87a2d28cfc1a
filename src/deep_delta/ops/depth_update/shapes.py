"""One canonical form for every shape that `delta_update` accepts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deep_delta.ops.operands import check_tensors


class MatrixForm(NamedTuple):
    """Inputs of equal rank: x [..., D, V], k [..., D], v [..., V], beta [..., 1]; leading axes still broadcast."""

    x: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    is_vector: bool
    """The state came as [..., D]; the result drops its one value channel again."""


def matrix_form(x: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> MatrixForm:
    """Check shapes and types and bring the vector form (x [..., D]) to the matrix form with V = 1.

    Raises `ValueError` naming the shapes or devices that do not fit, `TypeError` for what is not floating point.
    """
    check_tensors(x=x, k=k, v=v, beta=beta)
    if k.ndim == 0 or x.ndim not in (k.ndim, k.ndim + 1):
        raise ValueError(
            f"x must be [..., D, V] (or [..., D]) for k [..., D], got x {tuple(x.shape)} and k {tuple(k.shape)}"
        )
    is_vector = x.ndim == k.ndim
    if is_vector:
        x = x.unsqueeze(-1)
    if beta.ndim == k.ndim - 1:
        beta = beta.unsqueeze(-1)
    if beta.ndim != k.ndim or beta.shape[-1] != 1:
        raise ValueError(f"beta must be [..., 1] or [...] beside k {tuple(k.shape)}, got {tuple(beta.shape)}")
    if x.shape[-2] != k.shape[-1]:
        raise ValueError(f"x and k must share D, got x {tuple(x.shape)} and k {tuple(k.shape)}")
    if v.ndim != k.ndim or v.shape[-1] != x.shape[-1]:
        raise ValueError(f"v must be [..., V] with V = {x.shape[-1]} beside k {tuple(k.shape)}, got {tuple(v.shape)}")
    if 0 in x.shape[-2:]:
        raise ValueError(f"D and V must be at least 1, got x {tuple(x.shape)}")
    try:
        torch.broadcast_shapes(x.shape[:-2], k.shape[:-1], v.shape[:-1], beta.shape[:-1])
    except RuntimeError:
        raise ValueError(
            "leading axes must broadcast, got "
            f"x {tuple(x.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}, beta {tuple(beta.shape)}"
        ) from None
    return MatrixForm(x, k, v, beta, is_vector)
