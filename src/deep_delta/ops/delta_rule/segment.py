"""Between the layout of the inputs, [B, H, T, ·], and that of the work, [n, G, C, ·]: n chunks of C tokens, G = B · H.

Chunk by chunk the work is contiguous, in the precision of the computation, and padded with zeros behind the last
token: a token with k = 0 and β = 0 changes nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deep_delta.ops.direction import direction_norm, faded


class Workspace:
    """Memory taken by name, and used again for the next segment: fresh pages cost as much time as the arithmetic."""

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._empty = like.new_empty(0, dtype=dtype)
        self._memory: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor; what was last taken under this name is lost."""
        size = math.prod(shape)
        memory = self._memory.get(name, self._empty)
        if memory.numel() < size:
            memory = self._memory[name] = self._empty.new_empty(size)
        return memory[:size].view(shape)

    def load(self, name: str, x: Tensor, chunk: int) -> Tensor:
        """x [B, H, T, D] in chunks."""
        B, H, T, D = x.shape
        out = self(name, -(-T // chunk), B * H, chunk, D)
        whole, rest = divmod(T, chunk)
        if rest:
            out[whole, :, rest:] = 0
        for part, view in _parts(x, out, whole, rest):
            view.copy_(part)
        return out


def store(x: Tensor, out: Tensor) -> None:
    """Write x [n, G, C, D] into out [B, H, T, D]."""
    for part, view in _parts(out, x, *divmod(out.shape[2], x.shape[2])):
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


def may_look(x: Tensor) -> bool:
    """Whether values may be looked at to choose a way: on a CPU alone; elsewhere it would wait for the device."""
    return x.device.type == "cpu"


def normalize_(x: Tensor, eps: float) -> Tensor:
    """Make unit directions of x [..., D] in place, as `normalize_direction` does; returns rsqrt(Σx² + ε²), [..., 1].

    Squares that can neither overflow nor matter when they underflow need no scaling first, which saves passes. Which
    way a direction goes depends on itself alone.
    """
    if eps < 1e-12 or not may_look(x):
        return _normalize_scaled_(x, eps)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    far = None if norm.amax() < 1e15 else norm >= 1e15
    slope = norm.square_().add_(eps * eps).rsqrt_()
    if far is not None:
        scaled = x.clone()
        slope = torch.where(far, _normalize_scaled_(scaled, eps), slope)
        x.copy_(torch.where(far, scaled, x * slope))
    else:
        x.mul_(slope)
    return slope


def _normalize_scaled_(x: Tensor, eps: float) -> Tensor:
    scale, norm = direction_norm(x, eps)
    x.div_(scale).div_(norm)
    return scale.reciprocal().div_(norm)


def normalize_backward_(grad: Tensor, unit: Tensor, slope: Tensor, eps: float, fade: float, scratch: Tensor) -> Tensor:
    """Turn the gradient of a unit direction into that of the direction, in place: (g − u (u · g)) · rsqrt(Σx² + ε²),
    faded as in `normalize_direction`."""
    if fade > eps:
        slope = slope * faded(slope, eps, fade)
    along = torch.mul(unit, grad, out=scratch).sum(-1, keepdim=True)
    return grad.addcmul_(unit, along, value=-1).mul_(slope)
