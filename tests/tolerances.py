"""The one table of tolerances for backends against their references, by dtype and backend.

Errors are max|a − b| / max|b|; for a network's gradients, by the rule in `deep_delta.benchmarks.correctness`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from deep_delta.benchmarks.correctness import judge_gradients, relative_error

__all__ = ["TOLERANCE", "assert_gradients_close", "relative_error"]

Gradients = Mapping[str, Tensor]

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


def assert_gradients_close(found: Gradients, expected: Gradients, tolerance: float) -> None:
    """By the rule of the benchmarks: a bias is judged on the scale of its layer's weight."""
    judged = judge_gradients(found, expected, tolerance)
    assert judged.is_right, judged
