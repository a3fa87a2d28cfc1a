"""The delta rule beside other packages' on the same tensors, and beside attention: whose step is faster from where.

Peers appear where they are installed. All of them normalise queries and keys inside what is timed, as ours does.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.benchmarks.case import Case, Counted, CrossingPlan, Group, Op, Plan, Setting, Workload, op_workload
from deep_delta.benchmarks.suites.operator import rule_counted, rule_tensors
from deep_delta.benchmarks.suites.tensors import OPERATION, Sizes, shape_name
from deep_delta.ops import normalize_direction
from deep_delta.ops.delta_rule import chunk_delta_rule, recurrent_delta_rule
from deep_delta.runs.benchmark import Precision

_LENGTHS = (128, 256, 384, 512, 640, 768, 1024, 2048, 4096, 16384)
_QUICK_LENGTHS = (256, 512, 1024)
_CHECKED = 256  # the recurrence in fp64 keeps every state
_OURS, _TRANSFORMERS, _SDPA = "deep_delta", "transformers", "sdpa"


@dataclass(frozen=True)
class Peer:
    """A function of q, k [B, H, T, K], v [B, H, T, K] and beta [B, H, T]."""

    run: Op
    package: str | None = None
    """what has to be installed"""
    shortest: int = _LENGTHS[0]
    longest: int = _LENGTHS[-1]
    """beyond it a run takes minutes"""
    precisions: Sequence[Precision] = ("fp32", "bf16")


def plan(setting: Setting) -> Plan:
    skipped = {f"peers/*/{one}": why for one, why in setting.skipped.items() if one in setting.precisions}
    precisions = [one for one in setting.precisions if one not in setting.skipped]
    peers = {_OURS: Peer(chunk_delta_rule)}
    for name, peer in PEERS.items():
        if peer.package is not None and importlib.util.find_spec(peer.package) is None:
            skipped[f"peers/delta_rule/{name}"] = f"{peer.package} is not installed"
        elif not (setting.quick and name == "fla-recurrence"):
            peers[name] = peer
    lengths = _QUICK_LENGTHS if setting.quick else _LENGTHS
    groups = [_group(precision, length, peers) for precision in precisions for length in lengths]
    crossings = [_crossing(precision, groups) for precision in precisions]
    return Plan(tuple(groups), crossings=tuple(crossings), skipped=skipped)


def _group(precision: Precision, length: int, peers: dict[str, Peer]) -> Group:
    sizes = {"B": 2, "H": 8, "T": length, "K": 64}
    cases = {
        name: _case(name, peer.run, attention if name == _SDPA else recurrent_delta_rule, precision, sizes)
        for name, peer in peers.items()
        if peer.shortest <= length <= peer.longest and precision in peer.precisions
    }
    relative_to = next((cases[name].name for name in (_TRANSFORMERS, _SDPA) if name in cases), None)
    return Group(tuple(cases.values()), relative_to)


def _case(name: str, run: Op, definition: Op, precision: Precision, sizes: Sizes) -> Case:
    def build(sizes: Sizes, device: torch.device) -> Workload:
        return op_workload(run, definition, rule_tensors(sizes, precision, device))

    return Case(
        name=f"peers/delta_rule/{name}/{precision}/{shape_name(sizes)}",
        precision=precision,
        build=partial(build, sizes),
        build_checked=partial(build, {**sizes, "T": min(sizes["T"], _CHECKED)}),
        tolerance=OPERATION[precision],
        phases=("forward_backward",),
        tokens=sizes["B"] * sizes["T"],
        counted=_attention_counted(sizes) if name == _SDPA else rule_counted(sizes, precision),
    )


def _crossing(precision: Precision, groups: list[Group]) -> CrossingPlan:
    points: dict[int, tuple[str, str]] = {}
    for group in groups:
        rows = {case.name.split("/")[2]: case for case in group.cases if case.precision == precision}
        if _OURS in rows and _SDPA in rows:
            length = int(rows[_OURS].name.rpartition("T")[2].partition("K")[0])
            points[length] = (rows[_OURS].row("forward_backward"), rows[_SDPA].row("forward_backward"))
    return CrossingPlan(f"peers/delta_rule/{_OURS}/{precision}", f"peers/delta_rule/{_SDPA}/{precision}", points)


def _attention_counted(sizes: Sizes) -> Counted:
    """Scores and their weighted sum over the half of the square that causal attention needs."""
    flops = 2 * sizes["B"] * sizes["H"] * sizes["T"] ** 2 * sizes["K"]
    return Counted(flops=flops, training_flops=3 * flops)


def sdpa(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """Causal attention on the same tensors; β takes no part, and its gradient is zero."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def attention(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """Causal attention as it is written."""
    later = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).triu(1)
    return ((q @ k.mT) / math.sqrt(q.shape[-1])).masked_fill(later, -math.inf).softmax(-1) @ v


def transformers_chunk(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """Qwen3-Next's chunked form in plain PyTorch, without decay; heads and time change places on its way in and out."""
    swapped = (tensor.transpose(1, 2) for tensor in (q, k, v))
    gate = beta.transpose(1, 2)
    run = _transformers_function()
    return run(*swapped, torch.zeros_like(gate), gate, use_qk_l2norm_in_kernel=True)[0].transpose(1, 2)


def fla_chunk(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    return _fla().delta_rule_chunkwise(*_units(q, k), v, beta)[0]


def fla_recurrence(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    return _fla().delta_rule_recurrence(*_units(q, k), v, beta)[0]


PEERS: dict[str, Peer] = {
    _TRANSFORMERS: Peer(transformers_chunk, "transformers", shortest=1024),
    "fla-naive": Peer(fla_chunk, "fla", shortest=1024, longest=4096, precisions=("fp32",)),
    "fla-recurrence": Peer(fla_recurrence, "fla", shortest=1024, longest=1024),
    _SDPA: Peer(sdpa, longest=4096),
}


def _units(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return normalize_direction(q).to(q.dtype), normalize_direction(k).to(k.dtype)


@cache
def _transformers_function() -> Callable[..., Any]:
    """Unwrapped: where flash-linear-attention is installed, the wrapper calls its Triton kernels instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    return inspect.unwrap(module.torch_chunk_gated_delta_rule)


@cache
def _fla() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("fla.ops.delta_rule.naive")
