"""The hot path of a residual-stream network: what happens between two sublayers, as one step."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import functools

import torch
from torch import Tensor

from deep_delta.ops import device_kernels
from deep_delta.ops.direction import compute_dtype
from deep_delta.ops.dispatch import Backend, Choice, resolve
from deep_delta.ops.native import unavailable
from deep_delta.ops.operands import check_tensor
from deep_delta.ops.plain import without_autocast
from deep_delta.ops.stream_step import compiled, eager, native, op, reference
from deep_delta.ops.stream_step.arguments import StepArguments, StepOutput, check_step
from deep_delta.ops.stream_step.continued import continue_step

__all__ = ["BACKENDS", "StepOutput", "continue_step", "explain_stream_step", "stream_step"]


def _reference(step: StepArguments, carry: Tensor | None, keep: bool) -> StepOutput:
    out = reference.stream_step(step)
    return out if keep else out._replace(carry=out.state.new_zeros(1).expand(out.state.shape))


op.KERNELS.update(eager=eager.KERNELS, compiled=compiled.KERNELS, native=native.KERNELS)
op.KERNELS["triton"] = op.Kernels(
    device_kernels.when_called("deep_delta.ops.stream_step.triton", "forward"),
    device_kernels.when_called("deep_delta.ops.stream_step.triton", "backward"),
)

BACKENDS = (
    Backend(
        "reference",
        _reference,
        preferred=lambda _: "plain operations, which Inductor fuses" if torch.compiler.is_compiling() else None,
    ),
    Backend(
        "triton",
        functools.partial(op.run, "triton"),
        lambda state: device_kernels.unavailable(state, state.shape[-2]),
        lambda state: "one kernel each way" if state.is_cuda else None,
    ),
    Backend(
        "native",
        functools.partial(op.run, "native"),
        unavailable,
        lambda state: "a C kernel, one pass over the state each way" if state.device.type == "cpu" else None,
    ),
    Backend("compiled", functools.partial(op.run, "compiled"), compiled.unavailable),
    Backend("eager", functools.partial(op.run, "eager"), preferred=lambda _: "one op with its own backward"),
)
"""In the order in which "auto" asks them."""


def stream_step(
    state: Tensor,
    k: Tensor,
    v: Tensor | None,
    beta: Tensor | None,
    read: Tensor | None,
    gain: Tensor,
    heads: Tensor | None = None,
    gate: Tensor | None = None,
    gate_bias: Tensor | None = None,
    *,
    erase: bool = True,
    eps: float = 1e-6,
    norm_eps: float = 1e-5,
    carry: Tensor | None = None,
    keep: bool = True,
    backend: str = "auto",
) -> StepOutput:
    """Across a sublayer boundary: write, read, normalise and project, as one op with one backward.

        X' = X + β k (vᵀ − kᵀX)        k = k̃ / √(Σk̃² + ε²)      (DDL, arXiv 2601.00417, Eq. 2.2)
        x  = Σ_s Σ_v read[s, v] ⊙ X'[t − (S − 1) + s, v]
        c  = gain ⊙ x / √(mean x² + ε_norm)
        scores = heads c            gates = 2σ(gate c + gate_bias)

    Args:
        state: X, channel-major, [B, T, V, D].
        k: the direction k̃, [B, T, D], normalised here.
        v: the target readout, [B, T, V]; None, with `beta`, for an additive step X' = X + k.
        beta: the gate, [B, T, 1].
        read: how the state is read, [S, V, D]: S = 1 is `channel_conv`, more taps are `token_conv`. None for V = 1.
        gain: of the RMSNorm, [D].
        heads: rows that are projected from c, [P, D]: the next sublayer's value. None for none.
        gate, gate_bias: of the next sublayer's β, [1, D] and [1]. None for none.
        erase: false writes β k vᵀ and erases nothing (the matched control).
        eps, norm_eps: of the direction and of the RMSNorm.
        keep: false does not keep the new state for backward: it is rebuilt from the next one, X = X' − β k δᵀ, which
            the next step hands back through `carry`; the last step of a chain must keep its own.
        carry: the `carry` of the step that made `state`.
        backend: "auto", "triton", "eager" or "reference"; see `deep_delta.ops.dispatch`.

    Everything is computed in fp32 at least; the reading takes the new state as it was rounded to the state's dtype.

    Returns:
        `StepOutput(state, x, c, scores, gates, carry)`: [B, T, V, D], [B, T, D], [B, T, D], [B, T, P] or None,
        [B, T, 1] or None.

    Raises:
        ValueError: shapes do not fit; the message names them.
        BackendError: the backend is unknown or cannot run here; the message says why.
    """
    step = check_step(state, k, v, beta, read, gain, heads, gate, gate_bias, erase, eps, norm_eps)
    if carry is not None:
        check_tensor("carry", carry, "state", state)
        if carry.shape != state.shape:
            raise ValueError(f"carry must be {tuple(state.shape)} as state is, got {tuple(carry.shape)}")
    operands = (state, k, v, beta, read, gain, heads, gate, gate_bias, carry)
    rebuilds = not keep or carry is not None
    if backend == "auto" and rebuilds and torch.compiler.is_compiling():
        backend = "triton" if state.is_cuda else "eager"  # the definition would let Inductor store every state
    elif backend == "auto" and step.dtype != compute_dtype(state):
        backend = "eager"  # a kernel computes in fp32, and an operand is wider than the state
    run = resolve("stream_step", BACKENDS, backend, state, operands).backend.run
    with without_autocast(state.device.type):  # the precision is told by the operands
        return run(step, carry, keep)


def explain_stream_step(state: Tensor, backend: str = "auto") -> Choice:
    """The backend that `stream_step` would run on a state like this one, and why."""
    return resolve("stream_step", BACKENDS, backend, state)
