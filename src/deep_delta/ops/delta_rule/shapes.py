"""What the delta rule over time accepts, checked once for every backend."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from deep_delta.ops.operands import check_tensors


def check_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    initial_state: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    chunk_size: int = 1,
) -> None:
    """q, k [B, H, T, K], v [B, H, T, E], beta [B, H, T], initial_state [B, H, K, E], cu_seqlens [N + 1] for N sequences
    packed in one row (B = 1; then the state is [N, H, K, E]).

    Raises `ValueError` naming the shapes or devices that do not fit, `TypeError` for what is not floating point.
    """
    check_tensors(q=q, k=k, v=v, beta=beta, initial_state=initial_state)
    if q.ndim != 4 or k.shape != q.shape:
        raise ValueError(f"q and k must both be [B, H, T, K], got {tuple(q.shape)} and {tuple(k.shape)}")
    if v.ndim != 4 or v.shape[:3] != q.shape[:3]:
        raise ValueError(f"v must be [B, H, T, E] beside q {tuple(q.shape)}, got {tuple(v.shape)}")
    if beta.shape != q.shape[:3]:
        raise ValueError(f"beta must be [B, H, T] beside q {tuple(q.shape)}, got {tuple(beta.shape)}")
    if 0 in q.shape or 0 in v.shape:
        raise ValueError(f"B, H, T, K and E must be at least 1, got q {tuple(q.shape)} and v {tuple(v.shape)}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    num_sequences = q.shape[0]
    if cu_seqlens is not None:
        if not isinstance(cu_seqlens, Tensor):
            raise TypeError(f"cu_seqlens must be an int32 or int64 tensor, got {type(cu_seqlens).__name__}")
        if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] < 2 or cu_seqlens.dtype not in (torch.int32, torch.int64):
            raise ValueError(
                "cu_seqlens must be an int32 or int64 tensor [N + 1] for N sequences, "
                f"got {cu_seqlens.dtype} {tuple(cu_seqlens.shape)}"
            )
        if cu_seqlens.device != q.device and cu_seqlens.device.type != "cpu":
            raise ValueError(f"cu_seqlens must be on {q.device}, as q is, or on the CPU, got {cu_seqlens.device}")
        if q.shape[0] != 1:
            raise ValueError(f"sequences named by cu_seqlens are packed in one row, B = 1, got q {tuple(q.shape)}")
        num_sequences = cu_seqlens.shape[0] - 1
    expected = (num_sequences, q.shape[1], q.shape[3], v.shape[3])
    if initial_state is not None and initial_state.shape != expected:
        raise ValueError(f"initial_state must be {expected}, got {tuple(initial_state.shape)}")


def check_step(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, state: Tensor) -> None:
    """q, k [B, H, K], v [B, H, E], beta [B, H], state [B, H, K, E]; raises as `check_inputs` does."""
    check_tensors(q=q, k=k, v=v, beta=beta, S=state)
    if q.ndim != 3 or k.shape != q.shape:
        raise ValueError(f"q and k must both be [B, H, K], got {tuple(q.shape)} and {tuple(k.shape)}")
    if v.ndim != 3 or v.shape[:2] != q.shape[:2]:
        raise ValueError(f"v must be [B, H, E] beside q {tuple(q.shape)}, got {tuple(v.shape)}")
    if beta.shape != q.shape[:2]:
        raise ValueError(f"beta must be [B, H] beside q {tuple(q.shape)}, got {tuple(beta.shape)}")
    if 0 in q.shape or 0 in v.shape:
        raise ValueError(f"B, H, K and E must be at least 1, got q {tuple(q.shape)} and v {tuple(v.shape)}")
    if state.shape != (*q.shape, v.shape[2]):
        raise ValueError(f"S must be {(*q.shape, v.shape[2])}, got {tuple(state.shape)}")


def sequence_bounds(cu_seqlens: Tensor, num_tokens: int) -> list[tuple[int, int]]:
    """The first and one past the last token of each packed sequence. Reads the values, so it never runs in a graph."""
    bounds = cu_seqlens.tolist()
    pairs = list(pairwise(bounds))
    if bounds[0] != 0 or bounds[-1] != num_tokens or any(end <= start for start, end in pairs):
        raise ValueError(f"cu_seqlens must increase from 0 to T = {num_tokens}, got {bounds}")
    return pairs
