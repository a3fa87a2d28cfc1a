"""Between the layout of the inputs, [B, H, T, ·], and that of the work, [n, G, C, ·]: n chunks of C tokens, G = B · H.

Chunk by chunk the work is contiguous, in the precision of the computation, and padded with zeros behind the last
token: a token with k = 0 and β = 0 changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deep_delta.ops.direction import direction_norm


def allocate(x: Tensor, chunk: int, dtype: torch.dtype) -> Tensor:
    """Memory for x [B, H, T, D] in chunks."""
    B, H, T, D = x.shape
    return x.new_empty((-(-T // chunk), B * H, chunk, D), dtype=dtype)


def load(x: Tensor, chunk: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    """x [B, H, T, D], times `scale`, in chunks."""
    out = allocate(x, chunk, dtype)
    T = x.shape[2]
    whole, rest = divmod(T, chunk)
    if rest:
        out[whole, :, rest:] = 0
    for part, view in _parts(x, out, whole, rest):
        view.copy_(part)
    return out if scale == 1.0 else out.mul_(scale)


def store(x: Tensor, out: Tensor, scale: float | Tensor = 1.0) -> None:
    """Write x [n, G, C, D], times `scale`, into out [B, H, T, D]."""
    whole, rest = divmod(out.shape[2], x.shape[2])
    x = x if isinstance(scale, float) and scale == 1.0 else x.mul_(scale)
    for part, view in _parts(out, x, whole, rest):
        part.copy_(view)


def _parts(x: Tensor, chunks: Tensor, whole: int, rest: int) -> list[tuple[Tensor, Tensor]]:
    """Matching views of the two layouts, [n, B, H, C, D]: the whole chunks, and what is left."""
    B, H, _, D = x.shape
    C = chunks.shape[2]
    parts = []
    if whole:
        tokens = x[:, :, : whole * C].unflatten(2, (whole, C)).permute(2, 0, 1, 3, 4)
        parts.append((tokens, chunks[:whole].view(whole, B, H, C, D)))
    if rest:
        parts.append((x[:, :, whole * C :], chunks[whole].view(B, H, C, D)[:, :, :rest]))
    return parts


def normalize_(x: Tensor, eps: float) -> Tensor:
    """Make unit directions of x [..., D] in place, as `normalize_direction` does; returns rsqrt(Σx² + ε²), [..., 1].

    Squares that can neither overflow nor matter when they underflow need no scaling first, which saves passes.
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    if eps >= 1e-12 and bool(norm.amax() < 1e15):
        slope = norm.square_().add_(eps * eps).rsqrt_()
        x.mul_(slope)
        return slope
    scale, norm = direction_norm(x, eps)
    x.div_(scale).div_(norm)
    return scale.reciprocal().div_(norm)


def normalize_backward_(grad: Tensor, unit: Tensor, slope: Tensor) -> Tensor:
    """Turn the gradient of a unit direction into that of the direction, in place: (g − u (u · g)) · rsqrt(Σx² + ε²)."""
    along = (unit * grad).sum(-1, keepdim=True)
    return grad.addcmul_(unit, along, value=-1).mul_(slope)
