"""The one table of tolerances for backends against their references: max|a − b| / max|b|, by dtype and backend."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE: dict[tuple[torch.dtype, str], float] = {
    (torch.float64, "reference"): 1e-13,
    (torch.float64, "fused"): 1e-13,
    (torch.float64, "eager"): 1e-13,
    (torch.float64, "compiled"): 1e-13,
    (torch.float64, "chunk"): 1e-13,
    (torch.float32, "reference"): 5e-6,
    (torch.float32, "fused"): 5e-6,
    (torch.float32, "eager"): 5e-6,
    (torch.float32, "compiled"): 5e-6,
    (torch.float32, "native"): 5e-6,
    (torch.float32, "chunk"): 5e-6,
    (torch.float32, "triton"): 5e-6,
    (torch.float32, "triton, interpreted"): 5e-6,
    (torch.bfloat16, "reference"): 2e-2,
    (torch.bfloat16, "fused"): 2e-2,
    (torch.bfloat16, "eager"): 2e-2,
    (torch.bfloat16, "compiled"): 2e-2,
    (torch.bfloat16, "native"): 2e-2,
    (torch.bfloat16, "chunk"): 2e-2,
    (torch.bfloat16, "fla"): 2e-2,
    (torch.bfloat16, "triton"): 2e-2,
    (torch.bfloat16, "triton, interpreted"): 4e-2,  # it truncates: twice rounding's error
    (torch.float16, "reference"): 3e-3,
    (torch.float16, "fused"): 3e-3,
    (torch.float16, "chunk"): 3e-3,
    (torch.float16, "triton"): 3e-3,
    (torch.float16, "triton, interpreted"): 3e-3,
}


def relative_error(actual: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """max|a − b| / max(max|b|, least), in fp64; not a number where either is not finite."""
    actual, expected = actual.double(), expected.double()
    if actual.shape != expected.shape:
        raise AssertionError(f"shapes differ: {tuple(actual.shape)} and {tuple(expected.shape)}")
    if expected.numel() == 0:
        return 0.0
    scale = expected.abs().max().clamp_min(least)
    return ((actual - expected).abs().max() / torch.where(scale > 0, scale, 1.0)).item()
