"""The delta rule over time by flash-linear-attention's Triton kernels, behind the same function; CUDA only.

Its layout is [B, T, H, ·], its inputs share one half-precision type, and queries and keys come to it normalised here,
so that the ε is ours. `tests/ops/test_delta_rule_peers.py` checks it against the reference where there is a GPU.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from deep_delta.ops.direction import normalize_direction


def unavailable(q: Tensor) -> str | None:
    """Why the kernels cannot run on a query like this one."""
    if q.device.type != "cuda":
        return f"flash-linear-attention runs on CUDA tensors, got {q.device.type}"
    if q.dtype not in (torch.float16, torch.bfloat16):
        return f"flash-linear-attention takes float16 or bfloat16, got {q.dtype}"
    if importlib.util.find_spec("fla") is None:
        return "flash-linear-attention is not installed (pip install 'deep-delta-learning[gpu]')"
    return None


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    *,
    initial_state: Tensor | None = None,
    scale: float,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The output and the last state. Shapes as in `deep_delta.chunk_delta_rule`; the kernels choose the chunk."""
    from fla.ops.delta_rule import chunk_delta_rule

    dtype = q.dtype
    if normalize:
        q, k = normalize_direction(q, eps, fade), normalize_direction(k, eps, fade)
    o, final_state = chunk_delta_rule(
        *(x.transpose(1, 2).to(dtype).contiguous() for x in (q, k, v, beta)),
        scale=scale,
        initial_state=None if initial_state is None else initial_state.float(),
        output_final_state=True,
        cu_seqlens=cu_seqlens,
    )
    return o.transpose(1, 2).to(v.dtype), final_state
