"""`--device`: a name that is checked before anything is loaded, and a device that is proven to work."""

from __future__ import annotations

import ctypes
import os
import re
import sys
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


def resolve_device(name: str) -> torch.device:
    """The device of this name; `auto` is the first CUDA device where there is one that works, else the CPU.

    `BackendError` with the reason when it is not there or refuses a small allocation.
    """
    import torch

    check_device_name(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        keep_freed_memory()
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BackendError(f"device {name} is not available here: {reason} (PyTorch {torch.__version__})") from None


def keep_freed_memory() -> None:
    """Let this process reuse the memory that it frees (glibc), where its user has not said otherwise.

    By default a training step's tensors go back to the system and come again as fresh pages, thousands of page faults a
    step: seen at 5–10 % of a small model's step.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**28)
