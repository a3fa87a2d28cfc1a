"""Whether a part of a model is as this package made it, so that a fused path may take its weights.

A boundary between sublayers runs as one operator on the weights of a norm, a compressor, a gate and a value. That is
right only for modules that would compute just that. Whatever was replaced, wrapped, hooked, parametrised, patched,
compiled by itself or given another kind of tensor is called as a module instead (`untouched` is false).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from operator import is_not
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

from deep_delta.errors import ConfigError
from deep_delta.ops.tracing import ORDINARY, ordinary

Kind = TypeVar("Kind", bound=type[nn.Module])

_FORWARD: dict[type[nn.Module], Callable[..., Any]] = {nn.Linear: nn.Linear.forward}
"""The kinds of modules that models are made of, each with its own forward."""


def ours(kind: Kind) -> Kind:
    """Mark a class of modules as one that models are made of."""
    _FORWARD[kind] = kind.forward
    return kind


def untouched(part: nn.Module) -> bool:
    """Whether `part` is exactly of one of `ours`, with nothing attached to it and ordinary tensors as parameters.

    A subclass is of another kind: parametrisations, sharding and pruning make one or add a hook. What is inside `part`
    is asked for by itself.
    """
    kind = type(part)
    if kind not in _FORWARD or kind.forward is not _FORWARD[kind]:
        return False
    if "forward" in part.__dict__ or part._compiled_call_impl is not None:
        return False
    if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
        return False
    return ordinary(*part._parameters.values()) and not every_module._has_any_global_hook()


class Watch:
    """Whether some modules and all in them are still as they were: nothing replaced, exchanged or attached.

    Asking costs a fraction of asking each for itself (`untouched`), which matters where a token takes a millisecond. It
    says no more than that nothing has changed, and holds on to the modules.
    """

    def __init__(self, *roots: nn.Module) -> None:
        modules = [module for root in roots for module in root.modules()]
        self._roots = roots
        self._hooks = (
            every_module._global_forward_hooks,
            every_module._global_forward_pre_hooks,
            every_module._global_backward_hooks,
            every_module._global_backward_pre_hooks,
            *(hooks for one in modules for hooks in (one._forward_hooks, one._forward_pre_hooks)),
            *(hooks for one in modules for hooks in (one._backward_hooks, one._backward_pre_hooks)),
        )
        owners = [owner for one in modules for owner in (one._modules, one._parameters)]
        self._held = tuple((owner, name, one) for owner in owners for name, one in owner.items())
        self._kinds = tuple((one, type(one), one.__dict__, len(one.__dict__)) for one in modules)
        self._forwards = tuple((kind, kind.forward) for kind in {type(one) for one in modules})

    def holds(self, *roots: nn.Module) -> bool:
        """Whether these are the modules, and as they were."""
        if any(self._hooks) or any(map(is_not, roots, self._roots)):
            return False
        for owner, name, one in self._held:
            if owner.get(name) is not one:
                return False
        for module, kind, attributes, size in self._kinds:
            if type(module) is not kind or len(attributes) != size:
                return False
        return all(kind.forward is forward for kind, forward in self._forwards)


@torch.no_grad()
def start_with(parameter: Tensor, values: Tensor) -> None:
    """Fill a parameter with values that broadcast to it, wherever it lies: on meta or sharded, too."""
    values = values.to(parameter.device, parameter.dtype).expand(parameter.shape)
    if type(parameter) not in ORDINARY and torch.distributed.is_available():
        from torch.distributed.tensor import DTensor, distribute_tensor

        if isinstance(parameter, DTensor):
            values = distribute_tensor(values, parameter.device_mesh, parameter.placements)
    parameter.copy_(values)


def computing_dtype(part: nn.Module) -> torch.dtype | None:
    """The precision of a module's first floating-point parameter; None for one that has none (a quantised one)."""
    return next((one.dtype for one in part.parameters() if one.is_floating_point()), None)


def call(part: nn.Module, name: str, *needed: Any, offered: tuple[Any, ...] = (), cache: Any = None) -> Any:
    """Call a part with `needed`, with as many of `offered` as its forward takes, and with the cache where there is one.

    A part of ours takes them all. One that somebody put in its place may take fewer: an `nn.Identity` takes one.
    `ConfigError` names the part where it takes no cache and is to go on from one.
    """
    everything = (*needed, *offered)
    if type(part) in _FORWARD and "forward" not in part.__dict__:
        return part(*everything, cache)
    room = _num_arguments(getattr(part.forward, "__func__", part.forward), hasattr(part.forward, "__self__"))
    if cache is None:
        return part(*everything[: max(len(needed), min(room, len(everything)))])
    if room <= len(everything):
        raise ConfigError(
            f"{name} was replaced by a {type(part).__name__} whose forward takes no cache after its "
            f"{len(everything)} inputs, so it cannot decode with one; let it take one, or read whole texts"
        )
    return part(*everything, cache)


@functools.lru_cache(maxsize=256)
def _num_arguments(forward: Callable[..., Any], bound: bool) -> int:
    """How many positional arguments a forward takes, beside self where it is `bound`."""
    kinds = [parameter.kind for parameter in inspect.signature(forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 1 << 16
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in positional for kind in kinds) - bound
