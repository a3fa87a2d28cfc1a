"""The step of a text that goes on: its reads reach back to tokens of earlier calls. What decoding runs."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops.native import CPU, unavailable
from deep_delta.ops.operands import check_tensor
from deep_delta.ops.plain import wants_plain, without_autocast
from deep_delta.ops.stream_step import native, reference
from deep_delta.ops.stream_step.arguments import StepArguments, StepOutput, check_step


def continue_step(
    state: Tensor,
    k: Tensor,
    v: Tensor | None,
    beta: Tensor | None,
    read: Tensor,
    gain: Tensor,
    heads: Tensor | None,
    gate: Tensor | None,
    gate_bias: Tensor | None,
    late: Tensor | None,
    *,
    erase: bool = True,
    eps: float = 1e-6,
    norm_eps: float = 1e-5,
) -> tuple[StepOutput, Tensor]:
    """`stream_step` of T tokens that follow others, and what all of them add to the reads after them.

    A read over S tokens is a sum, so of the tokens before only their share of the next S − 1 reads is needed: `late`
    [B, S − 1, D] in fp32 at least, None at the beginning. It is returned for the tokens after.

    On a CPU with a compiler, and where no gradient is wanted, it is one pass; elsewhere plain operations.

    Raises:
        ValueError: shapes do not fit; the message names them.
    """
    step = check_step(state, k, v, beta, read, gain, heads, gate, gate_bias, erase, eps, norm_eps)
    expected = (state.shape[0], len(read) - 1, state.shape[-1])
    if late is not None:
        check_tensor("late", late, "state", state)
        if late.shape != expected:
            raise ValueError(f"late must be {expected} beside read {tuple(read.shape)}, got {tuple(late.shape)}")
        if late.dtype != step.dtype:
            step = step._replace(dtype=torch.promote_types(step.dtype, late.dtype))
    operands = (state, k, v, beta, read, gain, heads, gate, gate_bias, late)
    if torch.is_grad_enabled() or wants_plain() or unavailable(*operands):
        with without_autocast(state.device.type):
            return _plain(step, read, late)
    next_late = torch.empty(expected, dtype=torch.float32, device=CPU)
    return native.infer(step, late, next_late), next_late


def _plain(step: StepArguments, read: Tensor, late: Tensor | None) -> tuple[StepOutput, Tensor]:
    state = reference.write(step)
    x_BTD, next_late = reference.read_on(state.to(step.dtype), read, late)
    c_BTD = F.rms_norm(x_BTD, x_BTD.shape[-1:], step.gain.to(step.dtype), step.norm_eps)
    out = StepOutput(state, x_BTD.to(state.dtype), c_BTD.to(state.dtype), *reference.project(step, c_BTD))
    return out, next_late
