"""The eager step with its two functions compiled by Inductor, each as one region; the rest of a model stays eager."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deep_delta.ops.stream_step import eager
from deep_delta.ops.stream_step.op import Kernels


def unavailable(state: Tensor) -> str | None:
    """Why Inductor cannot compile for a state like this one."""
    if state.device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        return "Inductor needs a C++ compiler (g++, clang++, or the one that CXX names)"
    return None


@functools.cache
def _region(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when it is first called: some 10 s the first time, less from PyTorch's cache. Past PyTorch's limit of
    recompilations it runs as it is."""
    return torch.compile(function)


KERNELS = Kernels(
    lambda step: _region(eager.forward)(step),
    lambda saved, *grads: _region(eager.backward)(saved, *grads),
)
