"""What every Triton kernel needs of an H100 or H200, from compiling it here without one.

    python -m tests.ops.triton_resources

calls each operator as a model would, on CPU tensors, takes the launches instead of running them, compiles those for
CUDA 9.0 and prints "registers a thread / bytes of stack a thread / warps" as the assembler reports them: stack above 0
means that registers were spilt. Not under TRITON_INTERPRET=1, which replaces the compiler.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

TARGET = GPUTarget("cuda", 90, 32)
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int64: "i64"}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion", "maxnreg")


class Launch(NamedTuple):
    """One kernel with the arguments that it would have been launched with."""

    kernel: JITFunction
    arguments: dict[str, Any]
    options: dict[str, int]


class Resources(NamedTuple):
    registers: int
    stack: int
    shared: int
    num_warps: int


@contextmanager
def captured_launches() -> Iterator[list[Launch]]:
    """Kernels are not run in here: what they would have been launched with is noted."""
    launches: list[Launch] = []
    run = JITFunction.run

    def note(kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        positional = [parameter.name for parameter in kernel.params]
        launches.append(Launch(kernel, dict(zip(positional, args, strict=False)) | kwargs, options))

    JITFunction.run = note
    try:
        yield launches
    finally:
        JITFunction.run = run


def compile_launch(launch: Launch) -> Any:
    """Compile as Triton's launcher would specialise it: None and constants folded, alignment to 16 known."""
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[parameter.name] = f"*{NAMES[value.dtype]}"
            attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return triton.compile(source, target=TARGET, options=launch.options)


def measure(launch: Launch) -> Resources:
    compiled = compile_launch(launch)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|SHARED):(\d+)", report)}
    return Resources(found["REG"], found["STACK"], compiled.metadata.shared, compiled.metadata.num_warps)


def delta_update_launches(dtype: torch.dtype, width: int, channels: int) -> list[Launch]:
    """Forward and backward of the update, channel-major as in a model."""
    op = importlib.import_module("deep_delta.ops.depth_update.triton")
    x = torch.empty(16, channels, width, dtype=dtype).mT
    k, v, beta = x[..., 0].clone(), x[:, 0].clone(), x[:, 0, :1].clone()
    with captured_launches() as launches:
        _, error = op.forward(x, k, v, beta, True, 1e-6)
        op.backward(torch.empty_like(x), x, k, beta, error, True, 1e-6)
    return launches


def stream_step_launches(dtype: torch.dtype, width: int, channels: int, taps: int, kind: str = "delta") -> list[Launch]:
    """Forward and backward of a boundary in a model: value and gate heads, weights in fp32, nothing rebuilt."""
    op = importlib.import_module("deep_delta.ops.stream_step.triton")
    arguments = importlib.import_module("deep_delta.ops.stream_step.arguments")
    contract = importlib.import_module("deep_delta.ops.stream_step.op")
    state, k = torch.empty(2, 64, channels, width, dtype=dtype), torch.empty(2, 64, width, dtype=dtype)
    is_additive = kind == "additive"
    v = None if is_additive else torch.empty(2, 64, channels)
    beta = None if is_additive else torch.empty(2, 64, 1)
    read = torch.empty(taps, channels, width) if taps else None
    heads = None if is_additive else torch.empty(channels, width)
    gate = (None, None) if is_additive else (torch.empty(1, width), torch.empty(1))
    step = arguments.check_step(state, k, v, beta, read, torch.empty(width), heads, *gate, kind == "delta", 1e-6, 1e-5)
    with captured_launches() as launches:
        made = op.forward(step)
        x = made.x if taps > 1 else None
        saved = contract.Saved(
            made.state, k, beta, read, step.gain, heads, gate[0], x, *made[4:], step.erase, False, made.state.dtype
        )
        upstream = (made.scores, made.gates) if heads is not None else (None, None)
        op.backward(saved, contract.Upstream(made.state, None, made.c, *upstream))
    return launches


def main() -> None:
    widths = (256, 768, 1024)
    print("| kernel | V | dtype | " + " | ".join(f"D = {width}" for width in widths) + " |")
    print("|---|---|---|" + "---|" * len(widths))
    for dtype in (torch.bfloat16, torch.float32):
        for name, channels, launch in (
            ("delta_update", 1, lambda dtype, width: delta_update_launches(dtype, width, 1)),
            ("delta_update", 4, lambda dtype, width: delta_update_launches(dtype, width, 4)),
            ("stream_step additive", 1, lambda dtype, width: stream_step_launches(dtype, width, 1, 0, "additive")),
            ("stream_step", 1, lambda dtype, width: stream_step_launches(dtype, width, 1, 0)),
            ("stream_step channel_conv", 4, lambda dtype, width: stream_step_launches(dtype, width, 4, 1)),
            ("stream_step token_conv", 4, lambda dtype, width: stream_step_launches(dtype, width, 4, 4)),
        ):
            found = [[measure(one) for one in launch(dtype, width)] for width in widths]
            for way, results in zip(("forward", "backward"), zip(*found, strict=True), strict=True):
                cells = (f"{one.registers} / {one.stack} / {one.num_warps}" for one in results)
                print(f"| {name} {way} | {channels} | {NAMES[dtype]} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
