"""The differentiable op behind the fused backends: one forward, one backward that reads only the state it made.

A backend supplies two functions on plain tensors (`Kernels`); storing, rebuilding and PyTorch's registration are here,
once. Eager execution takes an `autograd.Function`; while compiling the same functions are `torch.library` ops, which a
graph holds whole (`fullgraph=True`) and which cost 0.2 ms more a call.
"""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_delta.ops.direction import compute_dtype
from deep_delta.ops.plain import first_derivative_only
from deep_delta.ops.stream_step.arguments import StepArguments, StepOutput


class Forward(NamedTuple):
    """What a forward kernel returns; the last three are kept for its backward.

    Where nothing is read or projected, x, scores and gates have no elements; delta and inverse_norm have none when
    additive.
    """

    state: Tensor
    x: Tensor
    c: Tensor
    scores: Tensor
    gates: Tensor
    delta: Tensor
    """δ = v − kᵀX (v where nothing is erased), [B, T, V]."""
    inverse_norm: Tensor
    """1/√(Σk̃² + ε²), [B, T, 1]."""
    inverse_rms: Tensor
    """1/√(mean x² + ε), [B, T, 1]."""


class Saved(NamedTuple):
    """What a backward kernel reads beside the gradients. `state` is the one that the step made."""

    state: Tensor
    k: Tensor
    beta: Tensor | None
    read: Tensor | None
    gain: Tensor
    heads: Tensor | None
    gate: Tensor | None
    x: Tensor | None
    """Kept only where a read reaches over several tokens; otherwise it follows from `state`."""
    gates: Tensor
    delta: Tensor
    inverse_norm: Tensor
    inverse_rms: Tensor
    erase: bool
    rebuild: bool
    """Return the state before the step as well."""
    dtype: torch.dtype
    """Of the state, as it was given; a rebuilt one is handed on in the precision of the computation."""


class Upstream(NamedTuple):
    """The gradients of what the step returned; None for what nothing depends on."""

    state: Tensor | None
    x: Tensor | None
    c: Tensor | None
    scores: Tensor | None
    gates: Tensor | None


class Gradients(NamedTuple):
    """What a backward kernel returns; parts that do not exist have no elements."""

    state: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    read: Tensor
    gain: Tensor
    heads: Tensor
    gate: Tensor
    gate_bias: Tensor
    rebuilt: Tensor


class Kernels(NamedTuple):
    """One backend."""

    forward: Callable[[StepArguments], Forward]
    backward: Callable[[Saved, Upstream], Gradients]
    infer: Callable[[StepArguments], StepOutput] | None = None
    """Where no backward pass will follow; None for a backend that does no better there than its forward."""


KERNELS: dict[str, Kernels] = {}
"""By backend name; filled by the package."""


def run(name: str, step: StepArguments, carry: Tensor | None, keep: bool) -> StepOutput:
    """Run a step with a backend's kernels. `keep`: the state is stored for backward, and nothing need be rebuilt."""
    compiling = torch.compiler.is_compiling()
    if keep and not compiling and not torch.is_grad_enabled():  # without 40 µs of bookkeeping
        kernels = KERNELS[name]
        return kernels.infer(step) if kernels.infer else output(step, *kernels.forward(step)[:5])
    call = torch.ops.deep_delta.stream_step if compiling else _Step.apply
    made = call(*step[:9], carry, step.erase, step.eps, step.norm_eps, keep, name)
    return output(step, *made[:5])._replace(carry=None if keep else made[5])


def output(step: StepArguments, state: Tensor, x: Tensor, c: Tensor, scores: Tensor, gates: Tensor) -> StepOutput:
    """What a forward kernel made, with None for what was not asked for."""
    x = state.squeeze(-2) if step.read is None else x
    return StepOutput(state, x, c, None if step.heads is None else scores, None if step.gate is None else gates)


def _no_elements(like: Tensor, dtype: torch.dtype) -> Tensor:
    return like.new_empty(0, dtype=dtype)


def _forward(
    state: Tensor, k: Tensor, v: Tensor | None, beta: Tensor | None, read: Tensor | None, gain: Tensor,
    heads: Tensor | None, gate: Tensor | None, gate_bias: Tensor | None, carry: Tensor | None,
    erase: bool, eps: float, norm_eps: float, keep: bool, name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    operands = (state, k, v, beta, read, gain, heads, gate, gate_bias)
    dtype = compute_dtype(*(operand for operand in operands if operand is not None))
    out = KERNELS[name].forward(StepArguments(*operands, erase, eps, norm_eps, dtype))
    return *out[:5], _carry(state, dtype, keep), *out[5:]


def _carry(state: Tensor, dtype: torch.dtype, keep: bool) -> Tensor:
    """A tensor of the state's shape without its memory: only its gradient, which is the rebuilt state, has any."""
    return _no_elements(state, dtype) if keep else state.new_zeros(1, dtype=dtype).expand(state.shape)


def _forward_fake(
    state: Tensor, k: Tensor, v: Tensor | None, beta: Tensor | None, read: Tensor | None, gain: Tensor,
    heads: Tensor | None, gate: Tensor | None, gate_bias: Tensor | None, carry: Tensor | None,
    erase: bool, eps: float, norm_eps: float, keep: bool, name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    operands = (state, k, v, beta, read, gain, heads, gate, gate_bias)
    dtype = compute_dtype(*(operand for operand in operands if operand is not None))
    tokens = k.shape[:-1]
    return (
        state.new_empty(state.shape),
        state.new_empty(0 if read is None else k.shape),
        state.new_empty(k.shape),
        state.new_empty(0 if heads is None else (*tokens, len(heads)), dtype=dtype),
        state.new_empty(0 if gate is None else (*tokens, 1), dtype=dtype),
        _carry(state, dtype, keep),
        state.new_empty(0 if v is None else v.shape, dtype=dtype),
        state.new_empty(0 if v is None else (*tokens, 1), dtype=dtype),
        state.new_empty((*tokens, 1), dtype=dtype),
    )


def _backward(
    grad_state: Tensor | None, grad_x: Tensor | None, grad_c: Tensor | None, grad_scores: Tensor | None,
    grad_gates: Tensor | None, state: Tensor, k: Tensor, beta: Tensor | None, read: Tensor | None, gain: Tensor,
    heads: Tensor | None, gate: Tensor | None, x: Tensor | None, gates: Tensor, delta: Tensor, inverse_norm: Tensor,
    inverse_rms: Tensor, erase: bool, rebuild: bool, dtype: torch.dtype, name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    saved = Saved(
        state, k, beta, read, gain, heads, gate, x, gates, delta, inverse_norm, inverse_rms, erase, rebuild, dtype
    )
    upstream = Upstream(grad_state, grad_x, grad_c, grad_scores, grad_gates)
    return tuple(KERNELS[name].backward(saved, upstream))  # type: ignore[return-value]


def _backward_fake(
    grad_state: Tensor | None, grad_x: Tensor | None, grad_c: Tensor | None, grad_scores: Tensor | None,
    grad_gates: Tensor | None, state: Tensor, k: Tensor, beta: Tensor | None, read: Tensor | None, gain: Tensor,
    heads: Tensor | None, gate: Tensor | None, x: Tensor | None, gates: Tensor, delta: Tensor, inverse_norm: Tensor,
    inverse_rms: Tensor, erase: bool, rebuild: bool, dtype: torch.dtype, name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    inner = inverse_rms.dtype
    bias, rebuilt = None if gate is None else gain[:1], state if rebuild else None
    like = (state, k, delta, beta, read, gain, heads, gate, bias, rebuilt)
    kinds = (dtype, k.dtype, *(inner,) * 8)
    return tuple(  # type: ignore[return-value]
        _no_elements(k, kind) if tensor is None else k.new_empty(tensor.shape, dtype=kind)
        for tensor, kind in zip(like, kinds, strict=True)
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, k, v, beta, read, gain, heads, gate, gate_bias, carry, erase, _, _, keep, name = inputs
    state, x, _, _, gates, _, delta, inverse_norm, inverse_rms = output
    ctx.save_for_backward(
        state if keep else None, k, beta, read, gain, heads, gate, x if read is not None and len(read) > 1 else None,
        gates, delta, inverse_norm, inverse_rms,
    )  # fmt: skip
    ctx.state_dtype, ctx.v_dtype = state.dtype, None if v is None else v.dtype
    ctx.bias_dtype = None if gate_bias is None else gate_bias.dtype
    ctx.erase, ctx.rebuild, ctx.keep, ctx.name = erase, carry is not None, keep, name
    ctx.mark_non_differentiable(delta, inverse_norm, inverse_rms)
    ctx.set_materialize_grads(False)


def _gradients(call: Callable[..., Any], ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    """Of all inputs. `call` is `_backward`, or the op of it: tracing must not enter kernels that want real memory."""
    grad_state, grad_x, grad_c, grad_scores, grad_gates, rebuilt, *_ = grads
    state, k, beta, read, gain, heads, gate, *kept = ctx.saved_tensors
    if all(grad is None for grad in grads[:5]):
        return (None,) * 15
    if not ctx.keep:
        if rebuilt is None:
            raise RuntimeError(
                "with state_storage rebuilt, a loss must depend on the model's last state: the states between are "
                "rebuilt from it; use state_storage stored to differentiate an inner state by itself"
            )
        state = rebuilt
    out = Gradients(*call(
        grad_state, grad_x if read is not None else None, grad_c, grad_scores if heads is not None else None,
        grad_gates if gate is not None else None, state, k, beta, read, gain, heads, gate, *kept,
        ctx.erase, ctx.rebuild, ctx.state_dtype, ctx.name,
    ))  # fmt: skip
    return (
        out.state,
        out.k,
        None if beta is None else out.v.to(ctx.v_dtype),
        None if beta is None else out.beta.to(beta.dtype),
        None if read is None else out.read.to(read.dtype),
        out.gain.to(gain.dtype),
        None if heads is None else out.heads.to(heads.dtype),
        None if gate is None else out.gate.to(gate.dtype),
        None if gate is None else out.gate_bias.to(ctx.bias_dtype),
        out.rebuilt if ctx.rebuild else None,
        *(None,) * 5,
    )


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        """Setting up in here, not in `setup_context`, saves 90 µs of argument binding a call."""
        output = _forward(*inputs)
        _setup(ctx, inputs, output)
        return output

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Any) -> Any:
        return _gradients(_backward, ctx, *grads)


def _traced_gradients(ctx: Any, *grads: Any) -> Any:
    return _gradients(torch.ops.deep_delta.stream_step_backward, ctx, *grads)


_op = torch.library.custom_op("deep_delta::stream_step", _forward, mutates_args=())
_op.register_fake(_forward_fake)
_op.register_autograd(_traced_gradients, setup_context=_setup)
torch.library.custom_op("deep_delta::stream_step_backward", _backward, mutates_args=()).register_fake(_backward_fake)
