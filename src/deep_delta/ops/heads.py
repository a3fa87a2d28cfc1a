"""From one joint product to the heads of attention: split, rotate by position, normalise."""

# B batch, T time, H heads, K head width, R rotated features

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


def split_heads(
    qkv: Tensor, cos: Tensor, sin: Tensor, gain: Tensor | None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, T, 3, H, K] → three of [B, H, T, K]; queries and keys in their places, on one scale.

    Queries and keys are rotated by position (arXiv 2104.09864) and then, with a gain, normalised:
    gain ⊙ y / √(mean y² + ε) (arXiv 1910.07467). A rotation keeps the norm, so the statistics are the input's own.

    Args:
        qkv: W_q x, W_k x and W_v x, one beside the other.
        cos, sin: of the angles, [T, R/2], or [B, T, R/2] where rows stand at different positions; feature i of the
            first R turns with feature i + R/2, the others pass.
        gain: of the queries' and of the keys' RMSNorm, [2, K]; None rotates only.

    Computed in fp32 at least; the results have qkv's dtype. On a CPU with a compiler and
    one position for all rows it is one pass each way. `ValueError` when shapes do not fit.
    """
    positions = "BTR" if isinstance(cos, Tensor) and cos.ndim == 3 else "TR"
    check_operands(qkv=(qkv, "BT3HK"), cos=(cos, positions), sin=(sin, positions), gain=(gain, "2K"))
    if 2 * cos.shape[-1] > qkv.shape[-1]:
        raise ValueError(f"cos must have K/2 = {qkv.shape[-1] // 2} angles at most, got {tuple(cos.shape)}")
    operands = (qkv, cos, sin, gain)
    if cos.ndim == 3 or wants_plain() or native.unavailable(*operands):
        return plain(qkv, cos, sin, gain, eps)
    return run_function(_SplitHeads, qkv, cos, sin, gain, eps)


def plain(
    qkv: Tensor, cos: Tensor, sin: Tensor, gain: Tensor | None, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition."""
    half = cos.shape[-1]
    dtype = compute_dtype(qkv, cos, sin, *(() if gain is None else (gain,)))
    cos, sin = cos.to(dtype)[..., None, None, :], sin.to(dtype)[..., None, None, :]
    wide = qkv[:, :, :2].to(dtype)
    first, second, rest = wide[..., :half], wide[..., half : 2 * half], wide[..., 2 * half :]
    wide = torch.cat((first * cos - second * sin, first * sin + second * cos, rest), dim=-1)
    if gain is not None:
        wide = F.rms_norm(wide, wide.shape[-1:], eps=eps) * gain.to(dtype).unsqueeze(1)
    q, k = wide.to(qkv.dtype).transpose(1, 3).unbind(2)
    return q, k, qkv[:, :, 2].transpose(1, 2)


class _Arguments(ctypes.Structure):
    """The `SplitHeads` of transformer.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "time", "heads", "width", "half", "is_bf16", "threads")),
        ("eps", ctypes.c_double),
        *(
            (name, ctypes.c_void_p)
            for name in ("cosine", "sine", "gain", "qkv", "q", "k", "v", "inverse_rms", "input", "grad_gain")
        ),
    )


class _SplitHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, gain: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        B, T, _, H, K = qkv.shape
        qkv = qkv.contiguous()
        q, k, v = qkv.new_empty(B, H, T, K), qkv.new_empty(B, H, T, K), qkv.new_empty(B, H, T, K)
        inverse_rms = torch.empty((B, T, 2, H) if gain is not None else 0, dtype=torch.float32, device=native.CPU)
        native.call(
            "ddl_split_heads",
            _Arguments(B, T, H, K, cos.shape[-1], qkv.dtype == torch.bfloat16, native.threads(B * T), eps),
            cosine=native.rows(cos), sine=native.rows(sin), gain=native.rows(gain),
            qkv=qkv, q=q, k=k, v=v, inverse_rms=inverse_rms,
        )  # fmt: skip
        ctx.save_for_backward(None if gain is None else qkv, cos, sin, gain, inverse_rms)
        return q, k, v

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, cos, sin, gain, inverse_rms = ctx.saved_tensors
        B, H, T, K = grads[0].shape
        dtype, threads = grads[0].dtype, native.threads(B * T)
        grad_q, grad_k, grad_v = (native.rows(grad, dtype) for grad in grads)
        grad_qkv = torch.empty(B, T, 3, H, K, dtype=dtype, device=native.CPU)
        grad_gain = None if gain is None else torch.zeros(threads, 2, K, dtype=torch.float64, device=native.CPU)
        native.call(
            "ddl_join_heads",
            _Arguments(B, T, H, K, cos.shape[-1], dtype == torch.bfloat16, threads),
            cosine=native.rows(cos), sine=native.rows(sin), gain=native.rows(gain),
            qkv=grad_qkv, q=grad_q, k=grad_k, v=grad_v, inverse_rms=native.rows(inverse_rms),
            input=native.rows(qkv, dtype), grad_gain=grad_gain,
        )  # fmt: skip
        return grad_qkv, None, None, None if grad_gain is None else grad_gain.sum(0).to(gain.dtype), None
