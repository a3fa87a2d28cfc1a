"""The step as a C kernel (`ops/native/stream_step.c`): one pass over the state each way."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from deep_delta.ops.native import CPU, call, rows, threads
from deep_delta.ops.stream_step.arguments import StepArguments, StepOutput
from deep_delta.ops.stream_step.op import Forward, Gradients, Kernels, Saved, Upstream

_INTEGERS = ("batch", "time", "channels", "width", "taps", "heads", "kind", "threads")
_POINTERS = (
    "state", "k", "v", "beta", "read", "gain", "head_rows", "gate", "gate_bias", "x", "c", "new_state",
    "scores", "gates", "delta", "inverse_norm", "inverse_rms",
    "grad_new_state", "grad_x", "grad_c", "grad_scores", "grad_gates",
    "grad_state", "grad_k", "grad_v", "grad_beta", "rebuilt", "grad_weights", "late", "next_late",
)  # fmt: skip


class _Step(ctypes.Structure):
    """The `Step` of stream_step.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _INTEGERS),
        ("eps", ctypes.c_double),
        ("norm_eps", ctypes.c_double),
        ("state_is_bf16", ctypes.c_int64),
        ("saved_is_bf16", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


def forward(step: StepArguments) -> Forward:
    B, T, V, D = step.state.shape
    dtype, wide, additive = step.state.dtype, torch.float32, step.v is None
    P = 0 if step.heads is None else len(step.heads)
    out = Forward(
        torch.empty((B, T, V, D), dtype=dtype, device=CPU),
        torch.empty(0 if step.read is None else (B, T, D), dtype=dtype, device=CPU),
        torch.empty((B, T, D), dtype=dtype, device=CPU),
        torch.empty((B, T, P) if P else 0, dtype=wide, device=CPU),
        torch.empty(0 if step.gate is None else (B, T, 1), dtype=wide, device=CPU),
        torch.empty(0 if additive else (B, T, V), dtype=wide, device=CPU),
        torch.empty(0 if additive else (B, T, 1), dtype=wide, device=CPU),
        torch.empty((B, T, 1), dtype=wide, device=CPU),
    )
    _run_forward(
        step, new_state=out.state, x=out.x, c=out.c, scores=out.scores, gates=out.gates,
        delta=out.delta, inverse_norm=out.inverse_norm, inverse_rms=out.inverse_rms,
    )  # fmt: skip
    return out


def infer(step: StepArguments, late: Tensor | None = None, next_late: Tensor | None = None) -> StepOutput:
    """`forward` without what a backward pass would read, which while decoding is most of the time that memory takes.

    `late` and `next_late` [B, S − 1, D] are what earlier tokens add to the first reads, and where to write what all
    tokens add to the next ones.
    """
    B, T, V, D = step.state.shape
    like = step.state
    wide = like if like.dtype == torch.float32 else like.new_empty(0, dtype=torch.float32)
    state, c = like.new_empty(B, T, V, D), like.new_empty(B, T, D)
    x = None if step.read is None else like.new_empty(B, T, D)
    scores = None if step.heads is None else wide.new_empty(B, T, len(step.heads))
    gates = None if step.gate is None else wide.new_empty(B, T, 1)
    _run_forward(step, new_state=state, x=x, c=c, scores=scores, gates=gates, late=rows(late), next_late=next_late)
    return StepOutput(state, state.squeeze(-2) if x is None else x, c, scores, gates)


def _run_forward(step: StepArguments, **made: Tensor | None) -> None:
    B, T, V, D = step.state.shape
    dtype = step.state.dtype
    call(
        "ddl_stream_step_forward",
        _Step(
            B, T, V, D, 0 if step.read is None else len(step.read), 0 if step.heads is None else len(step.heads),
            0 if step.v is None else 1 + step.erase, threads(B * T), step.eps, step.norm_eps, dtype == torch.bfloat16,
        ),
        state=rows(step.state, dtype), k=rows(step.k, dtype), v=rows(step.v), beta=rows(step.beta),
        read=rows(step.read), gain=rows(step.gain), head_rows=rows(step.heads), gate=rows(step.gate),
        gate_bias=rows(step.gate_bias), **made,
    )  # fmt: skip


def backward(saved: Saved, upstream: Upstream) -> Gradients:
    B, T, V, D = saved.state.shape
    S = 0 if saved.read is None else len(saved.read)
    P = 0 if saved.heads is None else len(saved.heads)
    num_threads = threads(B * T)
    additive, dtype = saved.beta is None, saved.dtype
    sizes = (S * V * D, D, P * D, *((0, 0) if saved.gate is None else (D, 1)))
    weights = torch.zeros(num_threads, sum(sizes), dtype=torch.float64, device=CPU)
    state, k = (torch.empty(shape, dtype=dtype, device=CPU) for shape in ((B, T, V, D), (B, T, D)))
    v, beta, rebuilt = (
        torch.empty(shape if there else 0, dtype=torch.float32, device=CPU)
        for shape, there in (((B, T, V), not additive), ((B, T, 1), not additive), ((B, T, V, D), saved.rebuild))
    )
    call(
        "ddl_stream_step_backward",
        _Step(
            B, T, V, D, S, P, 0 if additive else 1 + saved.erase,
            num_threads, 0.0, 0.0, dtype == torch.bfloat16, saved.state.dtype == torch.bfloat16,
        ),
        new_state=rows(saved.state, saved.state.dtype), k=rows(saved.k, dtype), beta=rows(saved.beta),
        read=rows(saved.read), gain=rows(saved.gain), head_rows=rows(saved.heads), gate=rows(saved.gate),
        x=rows(saved.x, dtype), gates=rows(saved.gates),
        delta=rows(saved.delta), inverse_norm=rows(saved.inverse_norm), inverse_rms=rows(saved.inverse_rms),
        grad_new_state=rows(upstream.state, dtype), grad_x=rows(upstream.x, dtype), grad_c=rows(upstream.c, dtype),
        grad_scores=rows(upstream.scores), grad_gates=rows(upstream.gates),
        grad_state=state, grad_k=k, grad_v=v, grad_beta=beta, rebuilt=rebuilt, grad_weights=weights,
    )  # fmt: skip
    read, gain, heads, gate, gate_bias = weights.sum(0).float().split(sizes)
    return Gradients(
        state,
        k.to(saved.k.dtype),
        v,
        beta,
        read.view(S, V, D).clone() if S else read,
        gain.clone(),
        heads.view(P, D) * saved.gain.float() if P else heads,
        gate if saved.gate is None else gate.view(1, D) * saved.gain.float(),
        gate_bias.clone(),
        rebuilt,
    )


KERNELS = Kernels(forward, backward, infer)
