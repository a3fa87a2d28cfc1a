"""What a boundary step takes and gives, checked once for every backend."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deep_delta.ops.operands import check_tensor


class StepArguments(NamedTuple):
    """The operands of one step; what each means is told in `deep_delta.ops.stream_step`."""

    state: Tensor
    k: Tensor
    v: Tensor | None
    beta: Tensor | None
    read: Tensor | None
    gain: Tensor
    heads: Tensor | None
    gate: Tensor | None
    gate_bias: Tensor | None
    erase: bool
    eps: float
    norm_eps: float
    dtype: torch.dtype
    """The precision that everything is computed in."""


class StepOutput(NamedTuple):
    """state [B, T, V, D], x and c [B, T, D] in the state's dtype; scores [B, T, P] and gates [B, T, 1] in fp32 at
    least.

    `carry` is not data: it leads the state backward to the step before when states are rebuilt instead of stored.
    """

    state: Tensor
    x: Tensor
    c: Tensor
    scores: Tensor | None
    gates: Tensor | None
    carry: Tensor | None = None


def check_step(
    state: Tensor,
    k: Tensor,
    v: Tensor | None,
    beta: Tensor | None,
    read: Tensor | None,
    gain: Tensor,
    heads: Tensor | None,
    gate: Tensor | None,
    gate_bias: Tensor | None,
    erase: bool,
    eps: float,
    norm_eps: float,
) -> StepArguments:
    """Hold every shape against the state's. Raises `ValueError` naming the first that does not fit, `TypeError`."""
    check_tensor("state", state, "state", state)
    if state.ndim != 4 or 0 in state.shape:
        raise ValueError(f"state must be [B, T, V, D] with no empty axis, got {tuple(state.shape)}")
    if (v is None) != (beta is None):
        raise ValueError("v and beta come together, or both are None for an additive step")
    if (gate is None) != (gate_bias is None):
        raise ValueError("gate and gate_bias come together, or both are None")
    B, T, channels, width = state.shape
    dtype = torch.promote_types(torch.float32, state.dtype)
    for name, tensor, shape in (
        ("k", k, (B, T, width)),
        ("v", v, (B, T, channels)),
        ("beta", beta, (B, T, 1)),
        ("gain", gain, (width,)),
        ("read", read, None),
        ("heads", heads, None),
        ("gate", gate, (1, width)),
        ("gate_bias", gate_bias, (1,)),
    ):
        if tensor is None and name not in ("k", "gain"):
            continue
        check_tensor(name, tensor, "state", state)
        assert tensor is not None
        if shape is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} must be {tuple(shape)} beside state {tuple(state.shape)}, got {tuple(tensor.shape)}"
            )
        if tensor.dtype != dtype:
            dtype = torch.promote_types(dtype, tensor.dtype)
    if v is None and channels != 1:
        raise ValueError(f"an additive step has one value channel, got state {tuple(state.shape)}")
    if read is None and channels != 1:
        raise ValueError(f"a state of {channels} value channels needs a read weight [S, V, D]")
    if read is not None and (read.ndim != 3 or not len(read) or tuple(read.shape[1:]) != (channels, width)):
        raise ValueError(f"read must be [S, {channels}, {width}] with S ≥ 1, got {tuple(read.shape)}")
    if heads is not None and (heads.ndim != 2 or heads.shape[1] != width or not len(heads)):
        raise ValueError(f"heads must be [P, {width}] with P ≥ 1, got {tuple(heads.shape)}")
    return StepArguments(state, k, v, beta, read, gain, heads, gate, gate_bias, erase, eps, norm_eps, dtype)
