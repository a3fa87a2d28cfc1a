"""Hyper-connections between two sublayers: write, then mix the streams and read them."""

# B batch, T time, N = B·T tokens, M = N·V, V streams, D width, P = V + 2 coefficients of a stream: of A_m, A_r, B

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops import native
from deep_delta.ops.direction import compute_dtype
from deep_delta.ops.operands import check_operands
from deep_delta.ops.plain import first_derivative_only, run_function, wants_plain, without_autocast


def hyper_connection(
    state: Tensor,
    direction: Tensor | None,
    value: Tensor | None,
    static: Tensor,
    dynamic: Tensor | Callable[[Tensor], Tensor],
    scale: Tensor,
    *,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor, Tensor]:
    """H = state + value directionᵀ, then A_rᵀ H, A_mᵀ H and B  (hyper-connections, arXiv 2409.19606, Eqs. 10 to 13).

    (A_m | A_r | B) = static + (s_α … s_α s_β) ⊙ tanh(norm(H) dynamicᵀ), where norm(H) = H · rsqrt(mean(H²) + ε) over D.
    state: [B, T, V, D]. direction, value: what the sublayer before writes, [B, T, D] and [B, T, V]; None at the first.
    static: [V, V + 2]. dynamic: [V + 2, D]; or a function from norm(H) [..., D] to [..., V + 2], with plain operations
    around it. scale: s_α and s_β, [2].
    Returns the mixed state A_rᵀ H and what the sublayer reads, A_mᵀ H, [B, T, V, D] and [B, T, D] in the state's dtype,
    and B [B, T, V], what its output will be written with.

    Everything between is fp32 at least, under autocast too: 1 + 0.01·tanh(…) has hardly a digit left in bf16. For the
    backward pass it keeps one state, in its dtype. `ValueError` when shapes do not fit.
    """
    weights = None if callable(dynamic) else dynamic
    check_operands(
        state=(state, "BTVD"), direction=(direction, "BTD"), value=(value, "BTV"), static=(static, "VP"),
        dynamic=(weights, "PD"), scale=(scale, "2"),
    )  # fmt: skip
    if static.shape[1] != len(static) + 2 or (direction is None) != (value is None):
        raise ValueError(
            "static must be [V, V + 2], and direction and value come together or are both None, got "
            f"static {tuple(static.shape)}, direction {_shape(direction)} and value {_shape(value)}"
        )
    wide = compute_dtype(*(one for one in (state, direction, value, static, weights, scale) if one is not None))
    with without_autocast(state.device.type):
        if callable(dynamic):
            return plain(Inputs(state, direction, value, static.to(wide), static, scale.to(wide)), eps, dynamic)
        inputs = Inputs(state, direction, value, static.to(wide), dynamic.to(wide), scale.to(wide))
        return plain(inputs, eps) if wants_plain(*inputs) else run_function(_HyperConnection, *inputs, eps)


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def write(state: Tensor, direction: Tensor, value: Tensor) -> Tensor:
    """state + value directionᵀ, in the state's dtype; shapes as above."""
    wide = torch.promote_types(torch.promote_types(state.dtype, value.dtype), direction.dtype)
    return torch.addcmul(state.to(wide), value.to(wide).unsqueeze(-1), direction.to(wide).unsqueeze(-2)).to(state.dtype)


class Inputs(NamedTuple):
    """The tensors of `hyper_connection`, with weights in the precision of the computation."""

    state: Tensor
    direction: Tensor | None
    value: Tensor | None
    static: Tensor
    dynamic: Tensor
    scale: Tensor


def plain(
    inputs: Inputs, eps: float, project: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition; the coefficients' norm is divided out after their product. `project` stands for `dynamic`."""
    state, direction, value, static, dynamic, scale = inputs
    if direction is not None and value is not None:
        state = write(state, direction, value)
    wide_BTVD = state.to(static.dtype)
    inverse_BTV1 = (wide_BTVD.square().mean(-1, keepdim=True) + eps).rsqrt()
    logits = F.linear(wide_BTVD, dynamic) * inverse_BTV1 if project is None else project(wide_BTVD * inverse_BTV1)
    tanh_BTVP = torch.tanh(logits.to(static.dtype))
    coefficients_BTVP = static + _scale_of_each(scale, static) * tanh_BTVP
    x_BT1D, mixed_BTVD = (coefficients_BTVP[..., :-1].mT @ wide_BTVD).to(state.dtype).split((1, len(static)), dim=2)
    return mixed_BTVD, x_BT1D.squeeze(2), coefficients_BTVP[..., -1]


def _scale_of_each(scale: Tensor, static: Tensor) -> Tensor:
    """s_α for A_m and A_r, s_β for B: [P]."""
    return torch.cat((scale[:1].expand(static.shape[1] - 1), scale[1:]))


class _HyperConnection(torch.autograd.Function):
    """One pass over the state each way in C, or batches of small products that pass over it once each."""

    @staticmethod
    def forward(ctx: Any, *tensors_and_eps: Any) -> tuple[Tensor, Tensor, Tensor]:
        *tensors, eps = tensors_and_eps
        inputs = Inputs(*tensors)
        step = _step_natively if _runs_natively(inputs) else _step
        outputs, written, inverse_rms, logits = step(inputs, eps)
        ctx.save_for_backward(*inputs._replace(state=written), inverse_rms, logits)
        return outputs

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, inverse_rms, logits = ctx.saved_tensors
        inputs = Inputs(*tensors)
        pull = _pull_natively if _runs_natively(inputs) else _pull
        return (*pull(inputs, inverse_rms, logits, *grads), None)


Step = tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor, Tensor]
"""The outputs; and for the backward pass the state that was mixed, 1/rms of its streams and what tanh was taken of."""


def _step(inputs: Inputs, eps: float) -> Step:
    state, direction, value, static, dynamic, scale = inputs
    B, T, V, D = state.shape
    if direction is not None and value is not None:
        state = write(state, direction, value)
    state_NVD = state.to(static.dtype).reshape(B * T, V, D)
    inverse_NV1 = (torch.linalg.vector_norm(state_NVD, dim=-1, keepdim=True).square() / D + eps).rsqrt()
    logits_NVP = F.linear(state_NVD, dynamic) * inverse_NV1
    coefficients_NVP = torch.addcmul(static, _scale_of_each(scale, static), logits_NVP.tanh())
    x_N1D = torch.bmm(coefficients_NVP[..., :1].mT, state_NVD)
    mixed_NVD = torch.bmm(coefficients_NVP[..., 1:-1].mT, state_NVD)
    outputs = mixed_NVD.to(state.dtype).view(B, T, V, D), x_N1D.to(state.dtype).view(B, T, D)
    return (*outputs, coefficients_NVP[..., -1].reshape(B, T, V)), state, inverse_NV1, logits_NVP


def _pull(
    inputs: Inputs,
    inverse_NV1: Tensor,
    logits_NVP: Tensor,
    grad_mixed: Tensor,
    grad_x: Tensor,
    grad_value: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradient of every tensor that `_step` took, from those of its outputs; its state is the one mixed."""
    state, direction, value, static, dynamic, scale = inputs
    (B, T, V, D), wide = state.shape, static.dtype
    state_NVD = state.to(wide).reshape(B * T, V, D)
    mixed_NVD, x_N1D = grad_mixed.to(wide).reshape(B * T, V, D), grad_x.to(wide).reshape(B * T, 1, D)

    of_read, of_mix = torch.bmm(state_NVD, x_N1D.mT), torch.bmm(state_NVD, mixed_NVD.mT)
    pulled_NVP = torch.cat((of_read, of_mix, grad_value.reshape(B * T, V, 1)), dim=-1)
    tanh_NVP = logits_NVP.tanh()
    coefficients_NVP = torch.addcmul(static, _scale_of_each(scale, static), tanh_NVP)
    scale_P = (pulled_NVP * tanh_NVP).sum((0, 1))
    logits_grad_NVP = pulled_NVP * _scale_of_each(scale, static) * (1 - tanh_NVP.square())
    shrink_NV1 = (logits_grad_NVP * logits_NVP).sum(-1, keepdim=True) * inverse_NV1.square() / -D
    product_MP = (logits_grad_NVP * inverse_NV1).flatten(0, 1)

    grad_NVD = torch.bmm(coefficients_NVP[..., 1:-1], mixed_NVD)
    grad_NVD.addcmul_(coefficients_NVP[..., :1], x_N1D).addcmul_(shrink_NV1, state_NVD)
    grad_NVD.flatten(0, 1).addmm_(product_MP, dynamic)
    grad_direction = grad_written = None
    if direction is not None and value is not None:
        along_N1D, written_N1V = direction.to(wide).reshape(B * T, 1, D), value.to(wide).reshape(B * T, 1, V)
        grad_direction = torch.bmm(written_N1V, grad_NVD).view(B, T, D).to(direction.dtype)
        grad_written = torch.bmm(grad_NVD, along_N1D.mT).view(B, T, V).to(value.dtype)
    return (
        grad_NVD.view(B, T, V, D).to(state.dtype),
        grad_direction,
        grad_written,
        pulled_NVP.sum(0),
        product_MP.T @ state_NVD.reshape(-1, D),
        torch.stack((scale_P[:-1].sum(), scale_P[-1])),
    )


class _Arguments(ctypes.Structure):
    """The `HyperConnection` of hyper_connection.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tokens", "streams", "width", "is_bf16", "threads")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("state", "direction", "value", "fixed", "dynamic", "scale")),
        *((name, ctypes.c_void_p) for name in ("written", "mixed", "x", "next_value", "inverse_rms", "logits")),
        *((name, ctypes.c_void_p) for name in ("grad_mixed", "grad_x", "grad_next_value")),
        *((name, ctypes.c_void_p) for name in ("grad_state", "grad_direction", "grad_value", "grad_weights")),
    )


def _runs_natively(inputs: Inputs) -> bool:
    return native.unavailable(*inputs) is None


def _call(name: str, inputs: Inputs, eps: float = 0.0, **others: Tensor | None) -> None:
    state, direction, value, static, dynamic, scale = inputs
    B, T, V, D = state.shape
    native.call(
        name,
        _Arguments(B * T, V, D, state.dtype == torch.bfloat16, native.threads(B * T), eps),
        state=state,
        direction=native.rows(direction, state.dtype),
        value=native.rows(value),
        fixed=native.rows(static),
        dynamic=native.rows(dynamic),
        scale=_scale_of_each(scale, static),
        **others,
    )


def _step_natively(inputs: Inputs, eps: float) -> Step:
    state, static = inputs.state.contiguous(), inputs.static
    B, T, V, D = state.shape
    written = state if inputs.direction is None else torch.empty_like(state)
    mixed, x, next_value = torch.empty_like(state), state.new_empty(B, T, D), static.new_empty(B, T, V)
    inverse_rms, logits = static.new_empty(B, T, V), static.new_empty(B, T, V, V + 2)
    _call(
        "ddl_hyper_connection",
        inputs._replace(state=state),
        eps,
        written=written,
        mixed=mixed,
        x=x,
        next_value=next_value,
        inverse_rms=inverse_rms,
        logits=logits,
    )
    return (mixed, x, next_value), written, inverse_rms, logits


def _pull_natively(
    inputs: Inputs,
    inverse_rms: Tensor,
    logits: Tensor,
    grad_mixed: Tensor,
    grad_x: Tensor,
    grad_next_value: Tensor,
) -> tuple[Tensor | None, ...]:
    state, direction, value, static, dynamic, _ = inputs
    grad_state = torch.empty_like(state)
    grad_direction = None if direction is None else state.new_empty(direction.shape)
    grad_value = None if value is None else static.new_empty(value.shape)
    sizes = static.numel(), dynamic.numel(), static.shape[1]
    grad_weights = torch.zeros(torch.get_num_threads(), sum(sizes), dtype=torch.float64, device=native.CPU)
    _call(
        "ddl_hyper_connection_backward",
        inputs,
        written=native.rows(state, state.dtype),
        inverse_rms=native.rows(inverse_rms),
        logits=native.rows(logits),
        grad_mixed=native.rows(grad_mixed, state.dtype),
        grad_x=native.rows(grad_x, state.dtype),
        grad_next_value=native.rows(grad_next_value),
        grad_state=grad_state,
        grad_direction=grad_direction,
        grad_value=grad_value,
        grad_weights=grad_weights,
    )
    grad_static, grad_dynamic, scale_P = grad_weights.sum(0).to(static.dtype).split(sizes)
    return (
        grad_state,
        None if direction is None or grad_direction is None else grad_direction.to(direction.dtype),
        None if value is None or grad_value is None else grad_value.to(value.dtype),
        grad_static.view_as(static),
        grad_dynamic.view_as(dynamic),
        torch.stack((scale_P[:-1].sum(), scale_P[-1])),
    )
