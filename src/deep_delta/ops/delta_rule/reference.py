"""The definition of the delta rule over time, token by token in plain PyTorch. Every backend is tested against it."""

# B batch, H heads, T time, K key and E value dimensions of a head

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deep_delta.ops.delta_rule.shapes import sequence_bounds
from deep_delta.ops.direction import compute_dtype, plain


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    chunk_size: int = 1,
    *,
    initial_state: Tensor | None = None,
    scale: float,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """o_t = S_tᵀ (scale · q_t) with S_t = S_{t−1} + β_t k_t (v_tᵀ − k_tᵀ S_{t−1}); returns o and the last state.

    Shapes as in `deep_delta.chunk_delta_rule`; `chunk_size` means nothing here.
    """
    dtype = compute_dtype(q, k, v, beta, *(() if initial_state is None else (initial_state,)))
    if initial_state is None:
        num_sequences = q.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
        initial_state = q.new_zeros((num_sequences, q.shape[1], q.shape[3], v.shape[3]), dtype=dtype)
    S = initial_state.to(dtype)
    inputs = prepare(q, k, v, beta, scale=scale, normalize=normalize, eps=eps, fade=fade, dtype=dtype)
    if cu_seqlens is None:
        o, S = scan(inputs, S)
        return o.to(v.dtype), S
    bounds = sequence_bounds(cu_seqlens, q.shape[2])
    runs = [scan([x[:, :, a:b] for x in inputs], S[n : n + 1]) for n, (a, b) in enumerate(bounds)]
    return torch.cat([o for o, _ in runs], dim=2).to(v.dtype), torch.cat([S for _, S in runs])


def prepare(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    *,
    scale: float,
    normalize: bool,
    eps: float,
    fade: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four inputs in the precision of the computation: unit directions, and the query scaled."""
    q, k = q.to(dtype), k.to(dtype)
    if normalize:
        q, k = plain(q, eps, fade), plain(k, eps, fade)
    return scale * q, k, v.to(dtype), beta.to(dtype)


def scan(inputs: Sequence[Tensor], S: Tensor) -> tuple[Tensor, Tensor]:
    """One token after the other; inputs: q, k, v and beta in one precision, the query already scaled."""
    outputs = []
    for q, k, v, beta in zip(*(x.unbind(2) for x in inputs), strict=True):
        o, S = step(q, k, v, beta, S)
        outputs.append(o)
    return torch.stack(outputs, dim=2), S


def step(q_BHK: Tensor, k_BHK: Tensor, v_BHE: Tensor, beta_BH: Tensor, S_BHKE: Tensor) -> tuple[Tensor, Tensor]:
    """One token, in one precision, the query already scaled."""
    k_BHK1 = k_BHK.unsqueeze(-1)
    error_BHE = v_BHE - (k_BHK1 * S_BHKE).sum(-2)
    S_BHKE = S_BHKE + k_BHK1 * (beta_BH.unsqueeze(-1) * error_BHE).unsqueeze(-2)
    return (q_BHK.unsqueeze(-1) * S_BHKE).sum(-2), S_BHKE
