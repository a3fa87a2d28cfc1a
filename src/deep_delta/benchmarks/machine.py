"""What this machine can do, as far as it decides which kernels run and how to wait for them."""

from __future__ import annotations

from collections.abc import Callable

import torch

_DECISIVE = ("avx2", "avx512_f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16", "neon", "sve", "bf16")


def waiter(device: torch.device) -> Callable[[], None]:
    """A function that returns when `device` has done what it was given."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type in ("mps", "xpu"):
        return lambda: torch.accelerator.synchronize(device)
    return lambda: None


def capabilities(device: torch.device) -> tuple[str, ...]:
    """Instruction sets and libraries by name, the device's own last."""
    flags = torch.cpu.get_capabilities()
    found = [f"kernels {torch.backends.cpu.get_cpu_capability()}"]
    found += [name for name in _DECISIVE if flags.get(name)]
    found += ["mkl"] if torch.backends.mkl.is_available() else []
    found += ["onednn"] if torch.backends.mkldnn.is_available() else []
    found += ["onednn bf16"] if onednn_has_bf16() else []
    if device.type == "cuda":
        found.append("cuda compute {}.{}".format(*torch.cuda.get_device_capability(device)))
        found += ["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return tuple(found)


def why_no_bf16(device: torch.device) -> str | None:
    """Why models in bf16 are not worth timing on this device; None where it computes in bf16."""
    if device.type == "cpu" and not onednn_has_bf16():
        return (
            "this processor has no bf16 instructions: a matrix product takes tens of times as long as in fp32 "
            "(--precision bf16 measures it all the same)"
        )
    return None


def onednn_has_bf16() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
