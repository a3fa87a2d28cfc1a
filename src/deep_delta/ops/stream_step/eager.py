"""The step in eager PyTorch: the algebra of README.md, one pass over the state for each line of it."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops.direction import inverse_norm
from deep_delta.ops.stream_step.arguments import StepArguments
from deep_delta.ops.stream_step.op import Forward, Gradients, Kernels, Saved
from deep_delta.ops.stream_step.reference import read_state


def forward(step: StepArguments) -> Forward:
    dtype = step.dtype
    state, k = step.state.to(dtype), step.k.to(dtype)
    if step.v is None or step.beta is None:
        state, delta, inverse = state + k.unsqueeze(-2), state.new_empty(0), state.new_empty(0)
    else:
        inverse = inverse_norm(k, step.eps)
        k = k * inverse
        delta = step.v.to(dtype)
        delta = delta - (state * k.unsqueeze(-2)).sum(-1) if step.erase else delta.clone()
        state = torch.addcmul(state, (step.beta.to(dtype) * delta).unsqueeze(-1), k.unsqueeze(-2))
    made = state.to(step.state.dtype)
    x = read_state(made.to(dtype), step.read)
    inverse_rms = (x.square().mean(-1, keepdim=True) + step.norm_eps).rsqrt()
    c = x * inverse_rms * step.gain.to(dtype)
    scores = c.new_empty(0) if step.heads is None else F.linear(c, step.heads.to(dtype))
    read = made.new_empty(0) if step.read is None else x.to(made.dtype)
    return Forward(made, read, c.to(made.dtype), scores, delta, inverse, inverse_rms)


def backward(
    saved: Saved, grad_state: Tensor | None, grad_x: Tensor | None, grad_c: Tensor | None, grad_scores: Tensor | None
) -> Gradients:
    dtype = saved.inverse_rms.dtype
    state = saved.state.to(dtype)
    pull_D, grad_gain, grad_heads = _through_norm(saved, state, grad_x, grad_c, grad_scores)
    pull_VD, grad_read = _through_read(saved.read, state, pull_D)
    if grad_state is not None:
        pull_VD = pull_VD + grad_state
    if saved.beta is None:
        rebuilt = state - saved.k.to(dtype).unsqueeze(-2) if saved.rebuild else state.new_empty(0)
        grad_k, grad_v, grad_beta = pull_VD.squeeze(-2).clone(), state.new_empty(0), state.new_empty(0)
    else:
        k, beta, delta = saved.k.to(dtype) * saved.inverse_norm, saved.beta.to(dtype), saved.delta
        k_1D = k.unsqueeze(-2)
        readout = (pull_VD * k_1D).sum(-1)  # g = Gᵀk
        grad_v, grad_beta = beta * readout, (delta * readout).sum(-1, keepdim=True)
        if saved.erase:
            grad_k = (pull_VD * delta.unsqueeze(-1)).addcmul_(state, readout.unsqueeze(-1), value=-1).sum(-2)
            grad_k = beta * torch.addcmul(grad_k, k, beta * grad_beta)
            pull_VD = torch.addcmul(pull_VD, k_1D, grad_v.unsqueeze(-1), value=-1)
        else:
            grad_k = beta * (pull_VD * delta.unsqueeze(-1)).sum(-2)
        grad_k = (grad_k - k * (k * grad_k).sum(-1, keepdim=True)) * saved.inverse_norm
        step_V1 = (beta * delta).unsqueeze(-1)
        rebuilt = torch.addcmul(state, step_V1, k_1D, value=-1) if saved.rebuild else state.new_empty(0)
    return Gradients(
        pull_VD.to(saved.dtype), within(grad_k, saved.k.dtype), grad_v, grad_beta, grad_read, grad_gain, grad_heads,
        rebuilt,
    )  # fmt: skip


def within(grad: Tensor, dtype: torch.dtype) -> Tensor:
    """In fp16 the slope near k = 0, 1/ε, is out of range and saturates."""
    return (grad.clamp(-65504.0, 65504.0) if dtype == torch.float16 else grad).to(dtype)


def _through_norm(
    saved: Saved, state: Tensor, grad_x: Tensor | None, grad_c: Tensor | None, grad_scores: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradients of x, c and the scores to those of x (whole), of the gain and of the heads."""
    dtype, grad_heads = state.dtype, state.new_empty(0)
    x = read_state(state, saved.read) if saved.x is None else saved.x.to(dtype)
    gain, rms = saved.gain.to(dtype), saved.inverse_rms
    unit = x * rms
    pull = torch.zeros_like(x) if grad_c is None else grad_c.to(dtype)
    if saved.heads is not None:
        grad_heads = torch.zeros_like(saved.heads, dtype=dtype)
        if grad_scores is not None:
            grad_scores = grad_scores.to(dtype)
            pull = pull + grad_scores @ saved.heads.to(dtype)
            grad_heads = (grad_scores.flatten(0, 1).mT @ unit.flatten(0, 1)) * gain
    grad_gain = (pull * unit).sum((0, 1))
    pull = pull * gain
    pull = torch.addcmul(pull, unit, (pull * unit).mean(-1, keepdim=True), value=-1) * rms
    return pull if grad_x is None else pull + grad_x, grad_gain, grad_heads


def _through_read(read: Tensor | None, state: Tensor, pull_D: Tensor) -> tuple[Tensor, Tensor]:
    """The read is linear in the state and in its weight: the gradients of both."""
    pull_1D = pull_D.unsqueeze(-2)
    if read is None:
        return pull_1D, pull_D.new_empty(0)
    read = read.to(state.dtype)
    grad_state, grad_read = pull_1D * read[-1], torch.zeros_like(read)
    grad_read[-1] = (pull_1D * state).sum((0, 1))
    for age, tap_VD in enumerate(reversed(read[:-1].unbind(0)), start=1):
        if age < state.shape[1]:
            late_1D = pull_1D[:, age:]
            grad_state[:, :-age] += late_1D * tap_VD
            grad_read[-1 - age] = (late_1D * state[:, :-age]).sum((0, 1))
    return grad_state, grad_read


KERNELS = Kernels(forward, backward)
