"""What a kernel may read: ordinary tensors, while nothing needs to see PyTorch's own operations.

A kernel takes addresses. A tensor without memory of its own (fake, meta, sharded, quantised, any subclass) has none to
give, and who records operations or replaces them sees nothing of a kernel. Both get plain operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

ORDINARY = frozenset({Tensor, nn.Parameter})
"""The types whose memory is their own."""
PROXY = torch._C._TorchDispatchModeKey.PROXY


def ordinary(*tensors: Tensor | None) -> bool:
    """Whether each is a tensor or parameter of PyTorch's own kind, with its values in memory (None passes): neither
    meta nor a view that stands for the negative of what is stored."""
    eager = not torch.compiler.is_compiling()
    for one in tensors:
        if one is not None and (type(one) not in ORDINARY or one.is_meta or (eager and one.is_neg())):
            return False
    return True


def recorded() -> bool:
    """Whether PyTorch's operations go into a graph that will run later (`make_fx`, `torch.jit.trace`)."""
    return torch._C._get_dispatch_mode(PROXY) is not None or torch._C._get_tracing_state() is not None


def traced() -> bool:
    """Whether something records or replaces PyTorch's operations as they are called.

    That is `torch.jit.trace`; any `TorchDispatchMode` (`make_fx`, `FakeTensorMode`, `FlopCounterMode`); and any
    `TorchFunctionMode` but the one behind `torch.device` as a context and `torch.set_default_device`. Not to be asked
    while compiling.
    """
    if torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state() is not None:
        return True
    return torch._C._len_torch_function_stack() > 0 and any(
        type(mode) is not DeviceContext for mode in _get_current_function_mode_stack()
    )
