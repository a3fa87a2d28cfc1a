"""The eager step with its two functions compiled by Inductor, each as one region; the rest of a model stays eager."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from deep_delta.ops.stream_step import eager
from deep_delta.ops.stream_step.arguments import StepArguments
from deep_delta.ops.stream_step.op import Forward, Gradients, Kernels, Saved, Upstream

Operands = TypeVar("Operands", StepArguments, Saved)


def unavailable(state: Tensor) -> str | None:
    """Why Inductor cannot compile for a state like this one."""
    if state.device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        return "Inductor needs a C++ compiler (g++, clang++, or the one that CXX names)"
    return None


@functools.cache
def _region(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled when it is first called: some 10 s the first time, less from PyTorch's cache. Beyond PyTorch's limit of
    recompilations (8 kinds of operands) it runs as it is."""
    return torch.compile(function)


def _forward(step: StepArguments) -> Forward:
    return _region(eager.forward)(_detached(step))


def _backward(saved: Saved, upstream: Upstream) -> Gradients:
    return _region(eager.backward)(_detached(saved), upstream)


def _detached(operands: Operands) -> Operands:
    """Without their history, which is the surrounding op's."""
    return type(operands)(*(one.detach() if isinstance(one, Tensor) else one for one in operands))  # type: ignore[arg-type]


KERNELS = Kernels(_forward, _backward)
