"""Which implementation of an operator runs, and why.

The order is: the `backend=` argument, then the environment variable `DEEP_DELTA_BACKEND`, then "auto". A backend that
was asked for by name and cannot run raises `BackendError` with the reason; "auto" takes the first that can, and says so
once in the log (`logging.getLogger("deep_delta")`, level INFO). The variable speaks to every operator: one that has no
backend of that name, while another has, takes "auto". An argument is always strict. Under `torch.func` and forward-mode
derivatives only the reference runs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deep_delta.errors import BackendError
from deep_delta.ops.tracing import ordinary, traced

ENVIRONMENT = "DEEP_DELTA_BACKEND"
NAMES = frozenset({"auto", "reference", "fused", "eager", "compiled", "native", "triton", "chunk", "fla"})
"""Every backend name of any operator."""
_log = logging.getLogger("deep_delta")
_said: set[tuple[str, str, str]] = set()


class Backend(NamedTuple):
    """One implementation of an operator."""

    name: str
    run: Callable[..., Any]
    unavailable: Callable[[Tensor], str | None] = lambda _: None
    """Why it cannot run on tensors like this one; None when it can."""
    preferred: Callable[[Tensor], str | None] = lambda _: None
    """Why "auto" would take it for tensors like this one; None when it would not."""


class Choice(NamedTuple):
    """The backend that was resolved, and the reason in words."""

    backend: Backend
    reason: str


def transformed() -> bool:
    """Whether `torch.func` or forward-mode derivatives are at work, which plain operations alone show everything."""
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


def resolve(
    op: str,
    backends: Sequence[Backend],
    requested: str,
    tensor: Tensor,
    operands: Sequence[Tensor | None] | None = None,
) -> Choice:
    """Choose a backend of `op` for `tensor`.

    `operands` are all tensors of an operator whose kernels read memory where nothing else sees it (C, Triton): what
    traces, and tensors that are not ordinary, then get the reference. A `torch.library` op is seen without that.

    Raises `BackendError` (exit code 2) when the requested one is unknown, or not available here, with the reason.
    """
    source = "argument"
    if requested == "auto" and ENVIRONMENT in os.environ:
        requested, source = os.environ[ENVIRONMENT], ENVIRONMENT
        if requested in NAMES and requested not in {backend.name for backend in backends}:
            requested = "auto"
    if why := _only_plain(operands):
        if requested not in ("auto", "reference"):
            raise BackendError(f"backend {requested!r} of {op} {why}; use backend 'reference'")
        requested = "reference"
    if requested != "auto":
        for backend in backends:
            if backend.name == requested:
                if reason := backend.unavailable(tensor):
                    raise BackendError(f"backend {requested!r} of {op} cannot run: {reason}")
                return Choice(backend, f"asked for by {source}")
        names = ", ".join(backend.name for backend in backends)
        raise BackendError(f"unknown backend {requested!r} of {op} (by {source}); there are auto, {names}")
    for backend in backends:
        if (reason := backend.preferred(tensor)) and not backend.unavailable(tensor):
            _say_once(op, backend.name, reason)
            return Choice(backend, reason)
    raise BackendError(f"no backend of {op} can run on {tensor.device}")


def _only_plain(operands: Sequence[Tensor | None] | None) -> str | None:
    """Why nothing but plain operations will do; None where a kernel may run."""
    if torch.compiler.is_compiling():
        return None
    if transformed():
        return "has no forward-mode derivative and no torch.func transform"
    if operands is None:
        return None
    if traced():
        return "cannot be seen by what traces PyTorch's operations (torch.jit.trace, a dispatch or function mode)"
    if not ordinary(*operands):
        kinds = sorted({type(one).__name__ for one in operands if one is not None and not ordinary(one)})
        return f"reads memory, which these operands may not have ({', '.join(kinds)})"
    return None


def _say_once(op: str, name: str, reason: str) -> None:
    if torch.compiler.is_compiling() or (op, name, reason) in _said:
        return
    _said.add((op, name, reason))
    _log.info("%s: backend %s (%s)", op, name, reason)
