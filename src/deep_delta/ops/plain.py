"""When an operator is left to PyTorch, as plain operations that autograd and Inductor see into; and when it must be."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from deep_delta.ops.dispatch import ENVIRONMENT, transformed
from deep_delta.ops.tracing import ordinary, traced


def wants_plain(*operands: Tensor | None) -> bool:
    """True while compiling (Inductor fuses plain operations), where the environment asks for the reference, under
    `torch.func` and forward-mode derivatives, while something traces, and for operands that are not ordinary tensors.
    """
    if torch.compiler.is_compiling() or os.environ.get(ENVIRONMENT) == "reference":
        return True
    return transformed() or traced() or not ordinary(*operands)


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """No autocast inside; where there is none anyway, entering costs nothing."""
    return torch.autocast(device_type, enabled=False) if autocast_dtype(device_type) else nullcontext()


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """The precision of the autocast that is at work on such a device; None where none is, or none can be ("meta")."""
    if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return None


class _NoContext:
    """In place of autograd's context, where nothing will be differentiated."""

    def save_for_backward(self, *tensors: Any) -> None: ...

    def mark_non_differentiable(self, *tensors: Any) -> None: ...

    def set_materialize_grads(self, value: bool) -> None: ...


def run_function(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """`function.apply`; where no gradient is wanted its forward alone, which saves some 50 µs of bookkeeping a call."""
    return function.apply(*inputs) if torch.is_grad_enabled() else function.forward(_NoContext(), *inputs)


def first_derivative_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a hand-written backward that cannot itself be differentiated: with `create_graph` it refuses."""

    @functools.wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"a hand-written backward has no second derivative (create_graph=True); set {ENVIRONMENT}=reference "
                "for plain operations, which have"
            )
        return backward(ctx, *grads)

    return checked
