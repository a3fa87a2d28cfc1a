"""Causal depthwise convolutions over time; with several output channels a feature, they expand an embedding."""

# B batch, T time, V value channels, D width, S taps

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops import native
from deep_delta.ops.direction import compute_dtype
from deep_delta.ops.operands import check_operands
from deep_delta.ops.plain import first_derivative_only, run_function, wants_plain


def causal_conv(x: Tensor, weight: Tensor) -> Tensor:
    """X[t, v] = Σ_s weight[s, v] ⊙ x[t − (S − 1) + s], zero before the first token; [B, T, D] → [B, T, V, D].

    weight is [S, V, D], S ≥ 1. On a CPU with a compiler it is one pass each way. `ValueError` when shapes do not fit.
    """
    check_operands(x=(x, "BTD"), weight=(weight, "SVD"))
    if not len(weight):
        raise ValueError(f"weight must have a tap, got {tuple(weight.shape)}")
    if wants_plain() or native.unavailable(x, weight):
        return plain(x, weight)
    return run_function(_CausalConv, x, weight)


def plain(x: Tensor, weight: Tensor) -> Tensor:
    """The definition; adds each older tap to the part of the output that it reaches."""
    wide = compute_dtype(x, weight)
    dtype = wide if wide == torch.float64 else x.dtype
    weight, x, given = weight.to(dtype), x.to(dtype).unsqueeze(2), x.dtype
    out = x * weight[-1]
    for age, tap_VD in enumerate(reversed(weight[:-1].unbind(0)), start=1):
        out = out + F.pad(x * tap_VD, (0, 0, 0, 0, age, 0))[:, : x.shape[1]]
    return out.to(given)


class _Arguments(ctypes.Structure):
    """The `CausalConv` of causal_conv.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "time", "channels", "width", "taps", "is_bf16", "threads")),
        *((name, ctypes.c_void_p) for name in ("embedded", "weight", "expanded", "grad_embedded", "grad_weight")),
    )


def _arguments(x: Tensor, weight: Tensor) -> _Arguments:
    (B, T, D), (S, V, _) = x.shape, weight.shape
    return _Arguments(B, T, V, D, S, x.dtype == torch.bfloat16, native.threads(B * T))


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        out = x.new_empty(*x.shape[:2], weight.shape[1], x.shape[2])
        native.call(
            "ddl_causal_conv",
            _arguments(x, weight),
            embedded=native.rows(x, x.dtype),
            weight=native.rows(weight),
            expanded=out,
        )
        return out

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x = x.new_empty(x.shape)
        grad_weight = torch.zeros(
            native.threads(x.shape[0] * x.shape[1]), *weight.shape, dtype=torch.float64, device=native.CPU
        )
        native.call(
            "ddl_causal_conv_backward",
            _arguments(x, weight),
            embedded=native.rows(x, x.dtype),
            weight=native.rows(weight),
            expanded=native.rows(grad, x.dtype),
            grad_embedded=grad_x,
            grad_weight=grad_weight,
        )
        return grad_x, grad_weight.sum(0).to(weight.dtype)
