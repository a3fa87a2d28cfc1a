"""Operators, each backend beside the reference. A new backend of an operator in `OPERATORS` appears by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Case, Counted, Group, Op, Plan, Setting, Workload, op_workload
from deep_delta.benchmarks.ceilings import DTYPES
from deep_delta.benchmarks.suites.tensors import OPERATION, Sizes, gate, normal, shape_name
from deep_delta.ops import delta_update
from deep_delta.ops.delta_rule import BACKENDS as RULE_BACKENDS
from deep_delta.ops.delta_rule import chunk_delta_rule
from deep_delta.ops.depth_update import BACKENDS as UPDATE_BACKENDS
from deep_delta.ops.dispatch import Backend
from deep_delta.ops.stream_step import BACKENDS as STEP_BACKENDS
from deep_delta.ops.stream_step import stream_step
from deep_delta.runs.benchmark import Precision


@dataclass(frozen=True)
class Operator:
    """An operator whose backends share one signature."""

    name: str
    run: Op
    """the public function, which takes `backend=`"""
    backends: Sequence[Backend]
    """among them "reference" """
    tensors: Callable[[Sizes, Precision, torch.device], Mapping[str, Tensor]]
    counted: Callable[[Sizes, Precision], Counted]
    shapes: Callable[[Setting], Sequence[Sizes]]
    checked: Callable[[Sizes], Sizes] = lambda sizes: sizes
    """the sizes at which fp64 is affordable"""

    def groups(self, setting: Setting) -> list[Group]:
        """Backends that Inductor compiles, for every shape anew, are left out unless compiling is asked for."""
        settings = [(precision, sizes) for precision in setting.precisions for sizes in self.shapes(setting)]
        names = [backend.name for backend in self.backends if setting.compile or backend.name != "compiled"]
        return [self.group("operator", precision, sizes, names) for precision, sizes in settings]

    def group(self, suite: str, precision: Precision, sizes: Sizes, names: Sequence[str] | None = None) -> Group:
        """All backends, or those of some `names` ("auto" among them), at one precision and size."""
        names = [backend.name for backend in self.backends] if names is None else names
        cases = tuple(self.case(suite, name, precision, sizes) for name in names)
        return Group(cases, next((case.name for case in cases if "/reference/" in case.name), None))

    def case(self, suite: str, backend: str, precision: Precision, sizes: Sizes) -> Case:
        def build(sizes: Sizes, device: torch.device) -> Workload:
            return op_workload(
                partial(self.run, backend=backend),
                partial(self.run, backend="reference"),
                self.tensors(sizes, precision, device),
            )

        def unavailable(device: torch.device) -> str | None:
            asked = {one.name: one.unavailable for one in self.backends}.get(backend)
            return None if asked is None else asked(torch.empty(1, 1, 1, 1, dtype=DTYPES[precision], device=device))

        return Case(
            name=f"{suite}/{self.name}/{backend}/{precision}/{shape_name(sizes)}",
            precision=precision,
            build=partial(build, sizes),
            build_checked=partial(build, self.checked(sizes)),
            tolerance=OPERATION[precision],
            tokens=sizes["B"] * sizes["T"],
            counted=self.counted(sizes, precision),
            unavailable=unavailable,
        )


def plan(setting: Setting) -> Plan:
    return Plan(tuple(group for operator in OPERATORS for group in operator.groups(setting)))


def _update_tensors(sizes: Sizes, precision: Precision, device: torch.device) -> dict[str, Tensor]:
    """The state as the model stores it: [B, T, V, D], seen as [B, T, D, V]."""
    B, T, D, V = (sizes[letter] for letter in "BTDV")
    of: dict[str, Any] = {"precision": precision, "device": device}
    return {
        "x": normal(B, T, V, D, seed=1, **of).mT,
        "k": normal(B, T, D, seed=2, **of),
        "v": normal(B, T, V, seed=3, **of),
        "beta": gate(B, T, 1, seed=4, **of),
    }


def _update_counted(sizes: Sizes, precision: Precision) -> Counted:
    tokens, width, channels = sizes["B"] * sizes["T"], sizes["D"], sizes["V"]
    cells, size = width * channels, DTYPES[precision].itemsize
    forward = 2 * cells + width + channels + 1
    backward = 3 * cells + 2 * width + 2 * channels + 2  # upstream, state and its gradient; the small ones and theirs
    return Counted(
        flops=tokens * 4 * cells,
        bytes_moved=tokens * forward * size,
        training_flops=tokens * 12 * cells,
        training_bytes=tokens * (forward + backward) * size,
    )


def _update_shapes(setting: Setting) -> list[Sizes]:
    large = {"B": 8, "T": 1024, "D": 768} if setting.device.type == "cuda" else {"B": 4, "T": 256, "D": 256}
    return [{**large, "V": channels} for channels in ((1, 4) if setting.quick else (1, 2, 4, 8))]


DELTA_UPDATE = Operator("delta_update", delta_update, UPDATE_BACKENDS, _update_tensors, _update_counted, _update_shapes)


def _step(
    state: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    gain: Tensor,
    heads: Tensor,
    gate: Tensor,
    gate_bias: Tensor,
    read: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """The five results of a boundary step, without what it carries for itself."""
    return stream_step(state, k, v, beta, read, gain, heads, gate, gate_bias, **options)[:5]


def _step_tensors(sizes: Sizes, precision: Precision, device: torch.device) -> dict[str, Tensor]:
    """A step in the middle of a model: the next sublayer's gate and value are projected too."""
    B, T, D, V, S = (sizes[letter] for letter in "BTDVS")
    of: dict[str, Any] = {"precision": precision, "device": device}
    tensors = {
        "state": normal(B, T, V, D, seed=1, **of),
        "k": normal(B, T, D, seed=2, **of),
        "v": normal(B, T, V, seed=3, **of),
        "beta": gate(B, T, 1, seed=4, **of),
        "gain": 1 + normal(D, seed=5, device=device, scale=0.1),
        "heads": normal(V, D, seed=6, device=device, scale=D**-0.5),
        "gate": normal(1, D, seed=8, device=device, scale=D**-0.5),
        "gate_bias": normal(1, seed=9, device=device),
    }
    return tensors if V == 1 else {**tensors, "read": normal(S, V, D, seed=7, device=device, scale=V**-0.5)}


def _step_counted(sizes: Sizes, precision: Precision) -> Counted:
    tokens, width, channels = sizes["B"] * sizes["T"], sizes["D"], sizes["V"]
    cells, size = width * channels, DTYPES[precision].itemsize
    flops = tokens * (4 * cells + 2 * cells * sizes["S"] + 2 * width * (channels + 1))
    return Counted(
        flops=flops,
        bytes_moved=tokens * (2 * cells + 2 * width) * size,
        training_flops=3 * flops,
        training_bytes=tokens * (5 * cells + 5 * width) * size,
    )


def _step_shapes(setting: Setting) -> list[Sizes]:
    """S taps of the reading: 1 as in channel_conv, 4 as in token_conv."""
    large = {"B": 8, "T": 1024, "D": 768} if setting.device.type == "cuda" else {"B": 4, "T": 256, "D": 256}
    kinds = [(4, 1)] if setting.quick else [(1, 1), (4, 1), (4, 4)]
    return [{**large, "V": channels, "S": taps} for channels, taps in kinds]


STREAM_STEP = Operator("stream_step", _step, STEP_BACKENDS, _step_tensors, _step_counted, _step_shapes)


def rule_tensors(sizes: Sizes, precision: Precision, device: torch.device) -> dict[str, Tensor]:
    B, H, T, K = (sizes[letter] for letter in "BHTK")
    of: dict[str, Any] = {"precision": precision, "device": device}
    return {
        "q": normal(B, H, T, K, seed=1, **of),
        "k": normal(B, H, T, K, seed=2, **of),
        "v": normal(B, H, T, K, seed=3, **of),
        "beta": gate(B, H, T, seed=4, **of) / 2,
    }


def rule_counted(sizes: Sizes, precision: Precision) -> Counted:
    """Of the recurrence: reading, rewriting and querying S; a chunked form computes more to run faster."""
    B, H, T, K = (sizes[letter] for letter in "BHTK")
    size = DTYPES[precision].itemsize
    return Counted(
        flops=B * H * T * 6 * K * K,
        bytes_moved=B * H * T * (4 * K + 1) * size,
        training_flops=B * H * T * 18 * K * K,
        training_bytes=B * H * T * (11 * K + 3) * size,
    )


def _rule_shapes(setting: Setting) -> list[Sizes]:
    return [{"B": 2, "H": 8, "T": length, "K": 64} for length in ((256,) if setting.quick else (256, 1024))]


DELTA_RULE = Operator(
    "chunk_delta_rule",
    chunk_delta_rule,
    RULE_BACKENDS,
    rule_tensors,
    rule_counted,
    _rule_shapes,
    lambda sizes: {**sizes, "T": min(256, sizes["T"])},
)
OPERATORS = (DELTA_UPDATE, STREAM_STEP, DELTA_RULE)
