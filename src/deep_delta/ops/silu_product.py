"""The elementwise half of SwiGLU, from the one product that holds both of its inputs."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops import native
from deep_delta.ops.operands import check_tensors
from deep_delta.ops.plain import first_derivative_only, run_function, wants_plain


def silu_product(gate_up: Tensor) -> Tensor:
    """silu(gate) ⊙ up, where gate and up are the halves of the last axis; [..., 2·F] → [..., F].

    Keeps its input and nothing else for the backward pass, which writes both halves of the gradient in place (autograd
    would fill two whole tensors with zeros and add them). On a CPU with a compiler it is one pass each way.
    """
    check_tensors(gate_up=gate_up)
    if gate_up.ndim == 0 or gate_up.shape[-1] % 2:
        raise ValueError(f"gate_up must be [..., 2·F], got {tuple(gate_up.shape)}")
    return plain(gate_up) if wants_plain(gate_up) else run_function(_SiluProduct, gate_up)


def plain(gate_up: Tensor) -> Tensor:
    """The definition."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


class _Arguments(ctypes.Structure):
    """The `SiluProduct` of transformer.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "features", "is_bf16", "threads")),
        *((name, ctypes.c_void_p) for name in ("gate_up", "grad", "out")),
    )


def _native(gate_up: Tensor, grad: Tensor | None, out: Tensor) -> Tensor:
    """Forward without a gradient, backward with one."""
    tokens, features = gate_up.shape[:-1].numel(), gate_up.shape[-1] // 2
    native.call(
        "ddl_silu_product",
        _Arguments(tokens, features, gate_up.dtype == torch.bfloat16, native.threads(tokens)),
        gate_up=native.rows(gate_up, gate_up.dtype),
        grad=native.rows(grad, gate_up.dtype),
        out=out,
    )
    return out


class _SiluProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        if native.unavailable(gate_up):
            return F.silu(gate).mul_(up)
        return _native(gate_up, None, gate_up.new_empty(gate.shape))

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        grads = gate_up.new_empty(gate_up.shape)
        if not native.unavailable(gate_up):
            return _native(gate_up, grad, grads)
        gate, up = gate_up.chunk(2, dim=-1)
        grad_gate, grad_up = grads.chunk(2, dim=-1)
        torch.mul(grad, F.silu(gate), out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        return grads
