"""The delta rule over time: chunked, step by step, and one token."""

# B batch, H heads, K key and E value dimensions of a head

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from deep_delta.ops.delta_rule import chunk, fla, reference
from deep_delta.ops.delta_rule.shapes import check_inputs, check_step
from deep_delta.ops.direction import compute_dtype
from deep_delta.ops.dispatch import Backend, Choice, resolve
from deep_delta.ops.plain import without_autocast

__all__ = ["BACKENDS", "chunk_delta_rule", "delta_rule_step", "explain_chunk_delta_rule", "recurrent_delta_rule"]

BACKENDS = (
    Backend("reference", reference.delta_rule),
    Backend("fla", fla.delta_rule, fla.unavailable, preferred=lambda _: "half precision on CUDA: Triton kernels"),
    Backend("chunk", chunk.delta_rule, preferred=lambda _: "matrix products by chunks, with their own backward"),
)
"""In the order in which "auto" asks them."""


@overload
def chunk_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    *,
    initial_state: Tensor | None = None,
    output_final_state: Literal[False] = False,
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    backend: str = "auto",
    cu_seqlens: Tensor | None = None,
) -> Tensor: ...
@overload
def chunk_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    *,
    initial_state: Tensor | None = None,
    output_final_state: Literal[True],
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    backend: str = "auto",
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...
@overload
def chunk_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    backend: str = "auto",
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
def chunk_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    backend: str = "auto",
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The delta rule over time, by chunks: o_t = S_tᵀ (scale · q_t)  (DeltaNet, arXiv 2406.06484), where

        S_t = S_{t−1} + β_t k_t (v_tᵀ − k_tᵀ S_{t−1}),   S ∈ R^{K×E}.

    Time and memory are linear in T. The chunk size changes the speed, and nothing else but rounding.

    Args:
        q: queries, [B, H, T, K], T of any length.
        k: keys, [B, H, T, K].
        v: values, [B, H, T, E].
        beta: gates in [0, 2], [B, H, T]. Not checked: no pass over the data.
        chunk_size: the most tokens of a chunk, at least 1; a backend may take fewer, and "fla" chooses its own.
        initial_state: S_0, [B, H, K, E]; zero when not given.
        output_final_state: return S_T too.
        scale: of the queries; K^−½ when not given.
        normalize: bring queries and keys to length 1, each x · rsqrt(Σx² + eps²) in fp32 at least, so that entries of
            1e20 are a direction like any other and zero stays zero; false takes them as they are.
        eps: the length below which a query or key counts as none. Its square is added under the root: where another
            library writes x · rsqrt(Σx² + 1e-6), as flash-linear-attention and transformers do, eps is 1e-3.
        fade: the slope of the normalisation is 1/√(Σx² + eps²), so 1/eps at zero. Where that root is below `fade`, the
            gradient of the query or key fades in proportion to Σx², to none at zero, and the slope is 1/fade at most;
            outputs, and all other gradients, do not change by a bit. With fade ≤ eps, as by default, nothing fades.
        backend: "auto", "chunk", "fla" or "reference"; see `deep_delta.ops.dispatch`.
        cu_seqlens: [N + 1], for N sequences packed one after the other in one row (B = 1): sequence n is the tokens
            cu_seqlens[n] to cu_seqlens[n + 1]. Nothing passes between them; the states are [N, H, K, E].

    Everything is computed in fp32 at least. Gradients flow to every input, through the final state too. Infinity or NaN
    in a token changes nothing before it, nothing in other heads and nothing in other sequences.

    Returns:
        o [B, H, T, E] of v's dtype; with `output_final_state`, (o, S), S in the precision of the computation.

    Raises:
        ValueError: shapes do not fit, or `cu_seqlens` does not increase from 0 to T; the message names them.
        TypeError: an input is not floating point.
        BackendError: the backend is unknown or cannot run here; the message says why.
    """
    check_inputs(q, k, v, beta, initial_state, cu_seqlens, chunk_size)
    chosen = resolve("chunk_delta_rule", BACKENDS, backend, q).backend
    o, final_state = chosen.run(
        q,
        k,
        v,
        beta,
        chunk_size,
        initial_state=initial_state,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        normalize=normalize,
        eps=eps,
        fade=fade,
        cu_seqlens=cu_seqlens,
    )
    return (o, final_state) if output_final_state else o


def explain_chunk_delta_rule(q: Tensor, backend: str = "auto") -> Choice:
    """The backend that `chunk_delta_rule` would run on queries like `q`, and why."""
    return resolve("chunk_delta_rule", BACKENDS, backend, q)


@overload
def recurrent_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: Literal[False] = False,
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    cu_seqlens: Tensor | None = None,
) -> Tensor: ...
@overload
def recurrent_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: Literal[True],
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]: ...
@overload
def recurrent_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]: ...
def recurrent_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    *,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The delta rule over time, token by token: the definition of `chunk_delta_rule`, with its arguments and errors.

    A step in time is a step of Python here, and under autograd every state is kept: for short sequences and for tests.
    """
    check_inputs(q, k, v, beta, initial_state, cu_seqlens)
    o, final_state = reference.delta_rule(
        q,
        k,
        v,
        beta,
        initial_state=initial_state,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        normalize=normalize,
        eps=eps,
        fade=fade,
        cu_seqlens=cu_seqlens,
    )
    return (o, final_state) if output_final_state else o


def delta_rule_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    S: Tensor,
    *,
    scale: float | None = None,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """One token of the delta rule over time, for decoding: the state goes in and comes out.

    q, k [B, H, K], v [B, H, E], beta [B, H], S [B, H, K, E]; the options as in `chunk_delta_rule`.
    Returns o [B, H, E] of v's dtype, and the new S in the precision of the computation, fp32 at least. `ValueError`
    when shapes do not fit, naming them; `TypeError` for tensors that are not floating point.
    """
    check_step(q, k, v, beta, S)
    dtype = compute_dtype(q, k, v, beta, S)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    token = reference.prepare(q, k, v, beta, scale=scale, normalize=normalize, eps=eps, fade=fade, dtype=dtype)
    with without_autocast(S.device.type):
        o, S = _step(*token, S.to(dtype))
    return o.to(v.dtype), S


def _step(q_BHK: Tensor, k_BHK: Tensor, v_BHE: Tensor, beta_BH: Tensor, S_BHKE: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.step` as products: the only memory of the state's size that it takes is the new state."""
    error_BHE = v_BHE - (k_BHK.unsqueeze(-2) @ S_BHKE).squeeze(-2)
    keys = k_BHK.flatten(0, 1).unsqueeze(-1)
    values = (beta_BH.unsqueeze(-1) * error_BHE).flatten(0, 1).unsqueeze(-2)
    S_BHKE = torch.baddbmm(S_BHKE.flatten(0, 1), keys, values).view(S_BHKE.shape)
    return (q_BHK.unsqueeze(-2) @ S_BHKE).squeeze(-2), S_BHKE
