"""RMSNorm and the direction's normalisation, each beside its formula in plain operations."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Case, Counted, Group, Op, Plan, Setting, Workload, module_workload, op_workload
from deep_delta.benchmarks.ceilings import DTYPES
from deep_delta.benchmarks.suites.tensors import OPERATION, Sizes, normal, shape_name
from deep_delta.nn.norm import RMSNorm
from deep_delta.ops import normalize_direction
from deep_delta.runs.benchmark import Precision

_EPS = 1e-6


def plan(setting: Setting) -> Plan:
    width = 768 if setting.device.type == "cuda" else 256
    shapes = [{"B": 4, "T": length, "D": width} for length in ((256,) if setting.quick else (256, 2048))]
    groups = [
        group(precision, sizes)
        for precision in setting.precisions
        for sizes in shapes
        for group in (_rms_norm, _direction)
    ]
    return Plan(tuple(groups))


def _direction(precision: Precision, sizes: Sizes) -> Group:
    def build(run: Op, device: torch.device) -> Workload:
        return op_workload(run, _unit, {"k": normal(*sizes.values(), precision=precision, device=device)})

    cases = {"plain": partial(build, _unit), "deep_delta": partial(build, normalize_direction)}
    return _group("normalize_direction", cases, precision, sizes)


def _unit(k: Tensor) -> Tensor:
    wide = k if k.dtype == torch.float64 else k.float()
    return wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + _EPS**2)


def _rms_norm(precision: Precision, sizes: Sizes) -> Group:
    def build(run: Op | None, device: torch.device) -> Workload:
        norm = RMSNorm(sizes["D"]).to(device)
        x = normal(*sizes.values(), precision=precision, device=device)
        return module_workload(norm, {"x": x}, run, definition=_normed)

    return _group("rms_norm", {"plain": partial(build, _normed), "deep_delta": partial(build, None)}, precision, sizes)


def _normed(module: RMSNorm, x: Tensor) -> Tensor:
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + module.eps) * module.weight).to(x.dtype)


def _group(what: str, builds: dict[str, Any], precision: Precision, sizes: Sizes) -> Group:
    tokens, width, size = sizes["B"] * sizes["T"], sizes["D"], DTYPES[precision].itemsize
    cases = tuple(
        Case(
            name=f"normalization/{what}/{name}/{precision}/{shape_name(sizes)}",
            precision=precision,
            build=build,
            tolerance=OPERATION[precision],
            tokens=tokens,
            counted=Counted(
                flops=4 * tokens * width,
                bytes_moved=2 * tokens * width * size,
                training_bytes=5 * tokens * width * size,
            ),
        )
        for name, build in builds.items()
    )
    return Group(cases, cases[0].name)
