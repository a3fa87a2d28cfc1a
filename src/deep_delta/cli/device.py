"""`--device`: a name that is checked before anything is loaded, and a device that is proven to work."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import BackendError, ConfigError

if TYPE_CHECKING:
    import torch

_NAMES = ("auto", "cpu", "cuda", "mps", "xpu")


def check_device_name(name: str) -> None:
    """`ConfigError` for a name that no PyTorch device has; imports no torch."""
    kind = re.fullmatch(r"([a-z]+)(:\d{1,3})?", name)
    if kind is None or kind[1] not in _NAMES or (kind[1] == "auto" and kind[2]):
        hint = did_you_mean(name, _NAMES)
        raise ConfigError(f"unknown device {name!r}{hint}; use auto, cpu, cuda, cuda:N, mps or xpu")


def resolve_device(name: str, *, trains: bool = True) -> torch.device:
    """The device of this name; `auto` is the first CUDA device where there is one that works, else the CPU.

    Where this process is for a model's steps on a CPU (`trains`), it keeps the memory that they free.
    `BackendError` with the reason when it is not there or refuses a small allocation.
    """
    import torch

    from deep_delta.training.memory import keep_freed_memory

    check_device_name(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu" and trains:
        keep_freed_memory()
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BackendError(f"device {name} is not available here: {reason} (PyTorch {torch.__version__})") from None
