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
