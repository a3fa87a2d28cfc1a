"""Where Triton kernels can run, told without importing Triton."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_CHANNELS = 8
_HAVE_TRITON = importlib.util.find_spec("triton") is not None


def unavailable(tensor: Tensor, channels: int) -> str | None:
    """Why no Triton kernel takes a state like this one with so many value channels; None when one does."""
    if not _HAVE_TRITON:
        return "triton is not installed"
    if not tensor.is_cuda and not interpreted():
        return f"the state is on {tensor.device} and Triton runs on CUDA (elsewhere under TRITON_INTERPRET=1)"
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it computes in fp32, which is not enough for {tensor.dtype}"
    if channels > MAX_CHANNELS:
        return f"it takes {MAX_CHANNELS} value channels at most and the state has {channels}"
    return None


def interpreted() -> bool:
    """Triton's interpreter was asked for, which runs kernels on CPU tensors. Triton reads this when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def when_called(module: str, function: str) -> Callable[..., Any]:
    """A function of a module that imports Triton, which is imported when it is first called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(module), function)(*arguments)

    return call
