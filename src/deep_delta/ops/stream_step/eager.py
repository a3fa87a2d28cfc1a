"""The step in eager PyTorch: the algebra of README.md, one pass over the state for each line of it."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import torch
from torch import Tensor

from deep_delta.ops.direction import inverse_norm
from deep_delta.ops.stream_step.arguments import StepArguments
from deep_delta.ops.stream_step.op import Forward, Gradients, Kernels, Saved, Upstream
from deep_delta.ops.stream_step.reference import project, read_state


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
    scores, gates = (c.new_empty(0) if one is None else one.contiguous() for one in project(step, c))
    read = made.new_empty(0) if step.read is None else x.to(made.dtype)
    return Forward(made, read, c.to(made.dtype), scores, gates, delta, inverse, inverse_rms)


def backward(saved: Saved, upstream: Upstream) -> Gradients:
    dtype = saved.inverse_rms.dtype
    state = saved.state.to(dtype)
    pull_D, grad_gain, grad_heads, grad_gate, grad_bias = _through_norm(saved, state, upstream)
    pull_VD, grad_read = _through_read(saved.read, state, pull_D)
    if upstream.state is not None:
        pull_VD = pull_VD + upstream.state
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
        grad_gate, grad_bias, rebuilt,
    )  # fmt: skip


def within(grad: Tensor, dtype: torch.dtype) -> Tensor:
    """In fp16 the slope near k = 0, 1/ε, is out of range and saturates."""
    return (grad.clamp(-65504.0, 65504.0) if dtype == torch.float16 else grad).to(dtype)


def _through_norm(saved: Saved, state: Tensor, upstream: Upstream) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """From the gradients of x, c, the scores and the gates to those of x (whole), gain, heads, gate and its bias."""
    dtype = state.dtype
    x = read_state(state, saved.read) if saved.x is None else saved.x.to(dtype)
    gain, rms = saved.gain.to(dtype), saved.inverse_rms
    unit = x * rms
    pull = torch.zeros_like(x) if upstream.c is None else upstream.c.to(dtype)
    logit = None if upstream.gates is None else upstream.gates.to(dtype) * saved.gates * (1 - saved.gates / 2)
    grads = []
    for rows, grad in ((saved.heads, upstream.scores), (saved.gate, logit)):
        if rows is None or grad is None:
            grads.append(state.new_zeros(0 if rows is None else rows.shape))
        else:
            pull = pull + grad.to(dtype) @ rows.to(dtype)
            grads.append((grad.to(dtype).flatten(0, 1).mT @ unit.flatten(0, 1)) * gain)
    grad_bias = state.new_zeros(0 if saved.gate is None else 1) if logit is None else logit.sum().view(1)
    grad_gain = (pull * unit).sum((0, 1))
    pull = pull * gain
    pull = torch.addcmul(pull, unit, (pull * unit).mean(-1, keepdim=True), value=-1) * rms
    grad_heads, grad_gate = grads
    return pull if upstream.x is None else pull + upstream.x, grad_gain, grad_heads, grad_gate, grad_bias


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
