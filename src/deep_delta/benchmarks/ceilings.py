"""What the machine itself can do, measured in the run whose rows stand beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from deep_delta.benchmarks.machine import waiter
from deep_delta.benchmarks.timing import Clock
from deep_delta.runs.benchmark import Ceiling, Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
_GEMM_SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (2048, 4096, 8192)}
_STREAM_BYTES = {"cpu": 1 << 26, "cuda": 1 << 30}
_REPEATS = 5
_ENOUGH = 0.5  # seconds after which no larger matrix is tried


def measure_ceilings(precision: Precision, device: torch.device, clock: Clock = time.perf_counter) -> list[Ceiling]:
    """The fastest matrix product (over sizes and libraries), copy and triad of this precision, the best of some runs.

    With the threads that PyTorch has now. A row whose operands fit into a cache may move more bytes than copying does.
    """
    wait = waiter(device)

    def best(run: Callable[[], Any]) -> float:
        run()
        wait()
        seconds = []
        for _ in range(_REPEATS):
            started = clock()
            run()
            wait()
            seconds.append(clock() - started)
        return max(min(seconds), 1e-9)

    dtype = DTYPES[precision]
    length = _STREAM_BYTES.get(device.type, _STREAM_BYTES["cpu"]) // dtype.itemsize
    a, b, c = (torch.ones(length, dtype=dtype, device=device) for _ in range(3))
    moved = {"copy": 2 * a.nbytes / best(lambda: a.copy_(b)), "triad": 3 * a.nbytes / best(lambda: _triad(a, b, c))}
    of = f"{a.nbytes >> 20} MiB"
    return [
        _gemm(precision, device, best),
        Ceiling(kind="copy", precision=precision, per_second=moved["copy"], by=of),
        Ceiling(kind="triad", precision=precision, per_second=moved["triad"], by=of),
    ]


def _triad(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
    torch.add(b, c, alpha=2.0, out=a)


def _gemm(precision: Precision, device: torch.device, best: Callable[[Callable[[], Any]], float]) -> Ceiling:
    found: list[tuple[float, str]] = []
    for size in _GEMM_SIZES.get(device.type, _GEMM_SIZES["cpu"]):
        a, b = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
        ways: dict[str, Callable[[], Any]] = {"torch.mm": lambda a=a, b=b: torch.mm(a, b)}  # type: ignore[misc]
        if device.type == "cpu" and torch.backends.mkldnn.is_available() and precision == "fp32":
            ways["onednn"] = lambda a=a, b=b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")  # type: ignore[misc]
        seconds = {way: best(run) for way, run in ways.items()}
        found += [(2 * size**3 / took, f"{way}, {size} × {size}") for way, took in seconds.items()]
        if max(seconds.values()) * _REPEATS > _ENOUGH:
            break
    per_second, by = max(found)
    return Ceiling(kind="gemm", precision=precision, per_second=per_second, by=by)
