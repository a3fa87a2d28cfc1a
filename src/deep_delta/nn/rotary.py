"""Rotary positions, in the rotate-half form (arXiv 2104.09864). Tables are made when needed; nothing is stored."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RotaryTable(NamedTuple):
    """cos and sin of position × frequency, each [T, R/2] for R rotated features."""

    cos: Tensor
    sin: Tensor


def rotary_table(start: int, length: int, rotary_dim: int, theta: float, device: torch.device) -> RotaryTable:
    """Angles of positions start … start + length − 1, frequencies theta^(−2i/R); in fp32."""
    exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device=device) / max(rotary_dim, 1)
    position = torch.arange(start, start + length, dtype=torch.float32, device=device)
    angle = torch.outer(position, 1.0 / theta**exponent)
    return RotaryTable(angle.cos(), angle.sin())


def apply_rotary(x: Tensor, table: RotaryTable) -> Tensor:
    """Rotate the first R features of x [..., T, K]; the others pass. Feature i turns with feature i + R/2."""
    half = table.cos.shape[-1]
    if half == 0:
        return x
    cos, sin = table.cos.to(x.dtype), table.sin.to(x.dtype)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((first * cos - second * sin, first * sin + second * cos, rest), dim=-1)
