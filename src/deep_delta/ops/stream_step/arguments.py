"""What a boundary step takes and gives, checked once for every backend."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from deep_delta.ops.direction import compute_dtype


class StepArguments(NamedTuple):
    """The operands of one step; what each means is told in `deep_delta.ops.stream_step`."""

    state: Tensor
    k: Tensor
    v: Tensor | None
    beta: Tensor | None
    read: Tensor | None
    gain: Tensor
    heads: Tensor | None
    erase: bool
    eps: float
    norm_eps: float
    dtype: torch.dtype
    """The precision that everything is computed in."""


class StepOutput(NamedTuple):
    """state [B, T, V, D], x and c [B, T, D] in the state's dtype; scores [B, T, P] in fp32 at least.

    `carry` is not data: it leads the state backward to the step before when states are rebuilt instead of stored.
    """

    state: Tensor
    x: Tensor
    c: Tensor
    scores: Tensor | None
    carry: Tensor | None = None


def check_step(
    state: Tensor,
    k: Tensor,
    v: Tensor | None,
    beta: Tensor | None,
    read: Tensor | None,
    gain: Tensor,
    heads: Tensor | None,
    erase: bool,
    eps: float,
    norm_eps: float,
) -> StepArguments:
    """Hold every shape against the state's. Raises `ValueError` naming the first that does not fit, `TypeError`."""
    operands = {"state": state, "k": k, "v": v, "beta": beta, "read": read, "gain": gain, "heads": heads}
    present = {name: tensor for name, tensor in operands.items() if tensor is not None}
    for name, tensor in present.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}")
    if state.ndim != 4 or 0 in state.shape:
        raise ValueError(f"state must be [B, T, V, D] with no empty axis, got {tuple(state.shape)}")
    if (v is None) != (beta is None):
        raise ValueError("v and beta come together, or both are None for an additive step")
    batch, width, channels = tuple(state.shape[:2]), state.shape[-1], state.shape[-2]
    expected = {"k": (*batch, width), "v": (*batch, channels), "beta": (*batch, 1), "gain": (width,)}
    for name, shape in expected.items():
        if name in present and tuple(present[name].shape) != shape:
            raise ValueError(
                f"{name} must be {shape} beside state {tuple(state.shape)}, got {tuple(present[name].shape)}"
            )
    if v is None and channels != 1:
        raise ValueError(f"an additive step has one value channel, got state {tuple(state.shape)}")
    if read is None and channels != 1:
        raise ValueError(f"a state of {channels} value channels needs a read weight [S, V, D]")
    if read is not None and (read.ndim != 3 or not len(read) or tuple(read.shape[1:]) != (channels, width)):
        raise ValueError(f"read must be [S, {channels}, {width}] with S ≥ 1, got {tuple(read.shape)}")
    if heads is not None and (heads.ndim != 2 or heads.shape[1] != width or not len(heads)):
        raise ValueError(f"heads must be [P, {width}] with P ≥ 1, got {tuple(heads.shape)}")
    dtype = compute_dtype(*present.values())
    return StepArguments(state, k, v, beta, read, gain, heads, erase, eps, norm_eps, dtype)
