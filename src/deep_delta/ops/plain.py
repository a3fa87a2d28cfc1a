"""When an operator is left to PyTorch, as plain operations that autograd and Inductor see into; and when it must be."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
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
    possible = device_type != "meta" if torch.compiler.is_compiling() else torch.amp.is_autocast_available(device_type)
    return torch.get_autocast_dtype(device_type) if possible and torch.is_autocast_enabled(device_type) else None


class _NoContext:
    """In place of autograd's context, where nothing will be differentiated."""

    def save_for_backward(self, *tensors: Any) -> None: ...

    def mark_non_differentiable(self, *tensors: Any) -> None: ...

    def set_materialize_grads(self, value: bool) -> None: ...


def run_function(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """`function.apply`; where no gradient is wanted its forward alone, which saves some 50 µs of bookkeeping a call."""
    return function.apply(*inputs) if torch.is_grad_enabled() else function.forward(_NoContext(), *inputs)


def first_derivative_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a hand-written backward: it cannot itself be differentiated, so with `create_graph` it refuses; and batched
    gradients (`is_grads_batched`, `vmap` of a backward) go through it one by one, because kernels want real memory."""

    @functools.wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                f"a hand-written backward has no second derivative (create_graph=True); set {ENVIRONMENT}=reference "
                "for plain operations, which have"
            )
        if any(isinstance(grad, torch.Tensor) and _is_batched(grad) for grad in grads):
            return _one_by_one(checked, ctx, grads)
        with _as_forward(grads):
            return backward(ctx, *grads)

    return checked


def _as_forward(grads: Sequence[Any]) -> AbstractContextManager[object]:
    """Autocast chose its precisions in the forward pass; around the backward pass alone it changes nothing."""
    device = next((grad.device.type for grad in grads if isinstance(grad, torch.Tensor)), None)
    return nullcontext() if device is None else without_autocast(device)


def _is_batched(tensor: torch.Tensor) -> bool:
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(tensor) or functorch.is_legacy_batchedtensor(tensor)


class _Context:
    """Autograd's context with the saved tensors read once: a checkpoint recomputes them and hands them out once."""

    def __init__(self, ctx: Any) -> None:
        self._ctx, self.saved_tensors = ctx, ctx.saved_tensors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


def _one_by_one(backward: Callable[..., Any], ctx: Any, grads: Sequence[Any]) -> tuple[Any, ...]:
    """`backward` of every element of the innermost batch, and the results batched again."""
    remove, add, level = _innermost_batch(next(grad for grad in grads if grad is not None and _is_batched(grad)))
    rows = [None if grad is None else remove(grad, level, 1, 0) for grad in grads]
    size = max(len(row) for row in rows if row is not None)
    context = ctx if isinstance(ctx, _Context) else _Context(ctx)
    found = [
        backward(context, *(None if row is None else row[i if len(row) > 1 else 0] for row in rows))
        for i in range(size)
    ]
    columns = zip(*(one if isinstance(one, tuple) else (one,) for one in found), strict=True)
    return tuple(None if column[0] is None else add(torch.stack(column), 0, level) for column in columns)


def _innermost_batch(grad: torch.Tensor) -> tuple[Callable[..., Any], Callable[..., Any], int]:
    """What takes a batch axis off a tensor and what puts it on, and the level of the one that is taken first.

    `is_grads_batched` batches by an older mechanism of PyTorch than `torch.func.vmap`, which counts its levels."""
    if torch._C._functorch.is_batchedtensor(grad):
        functorch = torch._C._functorch
        return functorch._remove_batch_dim, functorch._add_batch_dim, functorch.maybe_get_level(grad)
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    return torch._remove_batch_dim, torch._add_batch_dim, level
