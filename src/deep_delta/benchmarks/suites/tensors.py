"""Names, numbers and tolerances that the suites share."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deep_delta.benchmarks.ceilings import DTYPES
from deep_delta.runs.benchmark import Precision

Sizes = Mapping[str, int]
"""The sizes of a case by their letters: B batch, T time, D width, V value channels, H heads, K head dimensions."""

OPERATION: dict[Precision, float] = {"fp32": 2e-5, "bf16": 2e-2}
"""Largest relative error of one operator, outputs and gradients."""

NETWORK: dict[Precision, float] = {"fp32": 2e-4, "bf16": 1e-1}
"""Largest relative error of a whole block or model, whose roundings add up."""


def shape_name(sizes: Sizes) -> str:
    """B4T256D256V4"""
    return "".join(f"{letter}{size}" for letter, size in sizes.items())


def normal(
    *shape: int, precision: Precision = "fp32", device: torch.device | None = None, seed: int = 0, scale: float = 1.0
) -> Tensor:
    """Random numbers that are the same on every device and at every call."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator)).to(device=device, dtype=DTYPES[precision])


def gate(*shape: int, precision: Precision = "fp32", device: torch.device | None = None, seed: int = 0) -> Tensor:
    """Gates β in (0, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(shape, generator=generator)).to(device=device, dtype=DTYPES[precision])
