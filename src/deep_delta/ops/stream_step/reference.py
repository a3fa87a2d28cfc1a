"""The definition of the boundary step, in plain PyTorch. Every other backend is tested against it."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops.direction import plain
from deep_delta.ops.stream_step.arguments import StepArguments, StepOutput


def stream_step(step: StepArguments) -> StepOutput:
    """Write, read, normalise, project; the equations of `deep_delta.ops.stream_step`, computed in fp32 at least."""
    state = write(step)
    x_BTD = read_state(state.to(step.dtype), step.read)
    c_BTD = F.rms_norm(x_BTD, x_BTD.shape[-1:], step.gain.to(step.dtype), step.norm_eps)
    return StepOutput(state, x_BTD.to(state.dtype), c_BTD.to(state.dtype), *project(step, c_BTD))


def write(step: StepArguments) -> Tensor:
    """The new state: X + k for an additive step, X + β k vᵀ for a write-only one, else X + β k (vᵀ − kᵀX)."""
    state, k, v, beta = step.state.to(step.dtype), step.k.to(step.dtype), step.v, step.beta
    if v is None or beta is None:
        return (state + k.unsqueeze(-2)).to(step.state.dtype)
    k_1D = plain(k, step.eps).unsqueeze(-2)
    v = v.to(step.dtype)
    error = v - (state * k_1D).sum(-1) if step.erase else v
    return (state + (beta.to(step.dtype) * error).unsqueeze(-1) * k_1D).to(step.state.dtype)


def project(step: StepArguments, c_BTD: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The heads' scores [B, T, P] and the gates 2σ(w·c + b) [B, T, 1], from one product."""
    rows = [rows.to(step.dtype) for rows in (step.heads, step.gate) if rows is not None]
    if not rows:
        return None, None
    scores = F.linear(c_BTD, rows[0] if len(rows) == 1 else torch.cat(rows))
    if step.gate_bias is None:
        return scores, None
    gates = 2.0 * torch.sigmoid(scores[..., -1:] + step.gate_bias.to(step.dtype))
    return None if step.heads is None else scores[..., :-1], gates


def read_on(state: Tensor, read: Tensor, late: Tensor | None) -> tuple[Tensor, Tensor]:
    """`read_state` of tokens that follow others, whose share of the first S − 1 reads is `late` [B, S − 1, D] (None for
    none); and the share of all of them in the next S − 1 reads."""
    T = state.shape[-3]
    x = read_state(F.pad(state, (0, 0, 0, 0, 0, len(read) - 1)), read)
    if late is not None:
        x = x + F.pad(late.to(x.dtype), (0, 0, 0, T))
    return x[..., :T, :], x[..., T:, :]


def read_state(state: Tensor, read: Tensor | None) -> Tensor:
    """x[t] = Σ_s Σ_v read[s, v] ⊙ X[t − (S − 1) + s, v], zero before the first token; without a read, X itself."""
    if read is None:
        return state.squeeze(-2)
    read = read.to(state.dtype)
    x = (state * read[-1]).sum(-2)
    for age, tap_VD in enumerate(reversed(read[:-1].unbind(0)), start=1):
        x = x + _delayed((state * tap_VD).sum(-2), age)
    return x


def _delayed(x: Tensor, age: int) -> Tensor:
    """x [..., T, D] a number of tokens later, zero before; no branch on T, so that one graph holds any length."""
    return F.pad(x, (0, 0, age, 0))[..., : x.shape[-2], :]
