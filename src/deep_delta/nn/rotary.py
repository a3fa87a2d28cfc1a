"""Rotary positions, in the rotate-half form (arXiv 2104.09864). Tables are made when needed; nothing is stored."""

from __future__ import annotations

import torch
from torch import Tensor


class RotaryTable:
    """cos and sin of position × frequency, each [T, R/2] for R rotated features; [B, T, R/2] where rows differ.

    Neither a tuple nor a dataclass, whose tensors wrappers would cast (FSDP2's mixed precision): these stay in fp32.
    """

    __slots__ = ("cos", "sin")

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.cos, self.sin = cos, sin


def rotary_table(start: int | Tensor, length: int, rotary_dim: int, theta: float, device: torch.device) -> RotaryTable:
    """Angles of positions start … start + length − 1, frequencies theta^(−2i/R), in fp32; `start` [B] is one a row."""
    exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float32, device=device) / max(rotary_dim, 1)
    position = torch.arange(length, device=device)
    position = position + (start.to(device).unsqueeze(-1) if isinstance(start, Tensor) else start)
    angle = position.float().unsqueeze(-1) / theta**exponent
    return RotaryTable(angle.cos(), angle.sin())
