"""The delta update as Triton kernels: one program a token, and the token's whole state in registers.

A state too wide for that (more than `_TILE` numbers) is walked in blocks of D instead, twice forward and three times
backward; the later walks find it in the caches. Nothing is summed across programs: equal inputs give equal bits.
"""

# N tokens, V value channels, D width

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from deep_delta.ops.depth_update.op import Kernels
from deep_delta.ops.triton_direction import direction, direction_inverse, direction_scale, saturated

_TILE = 16384
"""V · D of a state that one program holds in registers."""


@triton.jit
def state_offsets(token, columns, D: tl.constexpr, V: tl.constexpr, BLOCK_V: tl.constexpr, CHANNEL_MAJOR: tl.constexpr):
    """Where [BLOCK_V, BLOCK_D] of a token's state lies, [N, V, D] in memory or [N, D, V]."""
    rows = tl.arange(0, BLOCK_V)[:, None]
    inside = rows * D + columns if CHANNEL_MAJOR else rows + columns * V
    return token * (D * V) + inside


@triton.jit
def forward_kernel(
    x_ptr, k_ptr, v_ptr, beta_ptr, out_ptr, error_ptr, eps,
    D: tl.constexpr, V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, LANE: tl.constexpr,
    CHANNEL_MAJOR: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns, rows = tl.max_contiguous(tl.arange(0, BLOCK_D), LANE)[None, :], tl.arange(0, BLOCK_V)[:, None]
    at = state_offsets(token, columns, D, V, BLOCK_V, CHANNEL_MAJOR)
    inside = (columns < D) & (rows < V)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    k = tl.load(k_ptr + token * D + columns, mask=columns < D, other=0.0).to(tl.float32)
    v = tl.load(v_ptr + token * V + rows, mask=rows < V, other=0.0).to(tl.float32)
    beta = tl.load(beta_ptr + token).to(tl.float32)
    if NORMALIZE:
        k, _, _ = direction(k, eps)
    error = v - tl.sum(x * k, 1, keep_dims=True)
    tl.store(error_ptr + token * V + rows, error, mask=rows < V)
    tl.store(out_ptr + at, x + k * (beta * error), mask=inside)


@triton.jit
def backward_kernel(
    grad_ptr, x_ptr, k_ptr, beta_ptr, error_ptr, dx_ptr, dk_ptr, dv_ptr, dbeta_ptr, eps,
    D: tl.constexpr, V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, LANE: tl.constexpr,
    CHANNEL_MAJOR: tl.constexpr, GRAD_CHANNEL_MAJOR: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns, rows = tl.max_contiguous(tl.arange(0, BLOCK_D), LANE)[None, :], tl.arange(0, BLOCK_V)[:, None]
    at = state_offsets(token, columns, D, V, BLOCK_V, CHANNEL_MAJOR)
    grad_at = state_offsets(token, columns, D, V, BLOCK_V, GRAD_CHANNEL_MAJOR)
    inside = (columns < D) & (rows < V)
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + grad_at, mask=inside, other=0.0).to(tl.float32)
    k = tl.load(k_ptr + token * D + columns, mask=columns < D, other=0.0).to(tl.float32)
    error = tl.load(error_ptr + token * V + rows, mask=rows < V, other=0.0)
    beta = tl.load(beta_ptr + token).to(tl.float32)
    if NORMALIZE:
        k, scale, inverse = direction(k, eps)
    pull = tl.sum(grad * k, 1, keep_dims=True)  # kᵀG
    tl.store(dv_ptr + token * V + rows, beta * pull, mask=rows < V)
    tl.store(dbeta_ptr + token, tl.sum(error * pull))
    tl.store(dx_ptr + grad_at, grad - k * (beta * pull), mask=inside)
    dk = beta * tl.sum(grad * error - x * pull, 0, keep_dims=True)
    if NORMALIZE:
        dk = tl.div_rn((dk - k * tl.sum(k * dk)) * inverse, scale)
    tl.store(dk_ptr + token * D + columns, saturated(dk, dk_ptr), mask=columns < D)


@triton.jit
def wide_scale(k_ptr, token, eps, D: tl.constexpr, BLOCK_D: tl.constexpr):
    largest = tl.zeros([1, BLOCK_D], tl.float32)
    for start in range(0, D, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)[None, :]
        k = tl.load(k_ptr + token * D + columns, mask=columns < D, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(k))
    return direction_scale(largest, eps)


@triton.jit
def wide_readout(
    state_ptr, k_ptr, token, scale, eps,
    D: tl.constexpr, V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    CHANNEL_MAJOR: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    """kᵀX, [V, 1], and 1/‖k/s‖, with which k/s is a unit vector."""
    rows = tl.arange(0, BLOCK_V)[:, None]
    readout, square = tl.zeros([BLOCK_V, BLOCK_D], tl.float32), tl.zeros([1, BLOCK_D], tl.float32)
    for start in range(0, D, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)[None, :]
        at = state_offsets(token, columns, D, V, BLOCK_V, CHANNEL_MAJOR)
        state = tl.load(state_ptr + at, mask=(columns < D) & (rows < V), other=0.0).to(tl.float32)
        k = tl.load(k_ptr + token * D + columns, mask=columns < D, other=0.0).to(tl.float32)
        k = tl.div_rn(k, scale)
        readout += state * k
        square += k * k
    inverse = direction_inverse(tl.sum(square), scale, eps) if NORMALIZE else 1.0
    return tl.sum(readout, 1, keep_dims=True) * inverse, inverse


@triton.jit
def wide_forward_kernel(
    x_ptr, k_ptr, v_ptr, beta_ptr, out_ptr, error_ptr, eps,
    D: tl.constexpr, V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    CHANNEL_MAJOR: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, BLOCK_V)[:, None]
    scale = wide_scale(k_ptr, token, eps, D, BLOCK_D) if NORMALIZE else 1.0
    readout, inverse = wide_readout(x_ptr, k_ptr, token, scale, eps, D, V, BLOCK_D, BLOCK_V, CHANNEL_MAJOR, NORMALIZE)
    error = tl.load(v_ptr + token * V + rows, mask=rows < V, other=0.0).to(tl.float32) - readout
    beta = tl.load(beta_ptr + token).to(tl.float32)
    tl.store(error_ptr + token * V + rows, error, mask=rows < V)
    for start in range(0, D, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)[None, :]
        at = state_offsets(token, columns, D, V, BLOCK_V, CHANNEL_MAJOR)
        inside = (columns < D) & (rows < V)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + token * D + columns, mask=columns < D, other=0.0).to(tl.float32)
        tl.store(out_ptr + at, x + tl.div_rn(k, scale) * inverse * (beta * error), mask=inside)


@triton.jit
def wide_backward_kernel(
    grad_ptr, x_ptr, k_ptr, beta_ptr, error_ptr, dx_ptr, dk_ptr, dv_ptr, dbeta_ptr, eps,
    D: tl.constexpr, V: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    CHANNEL_MAJOR: tl.constexpr, GRAD_CHANNEL_MAJOR: tl.constexpr, NORMALIZE: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, BLOCK_V)[:, None]
    scale = wide_scale(k_ptr, token, eps, D, BLOCK_D) if NORMALIZE else 1.0
    pull, inverse = wide_readout(
        grad_ptr, k_ptr, token, scale, eps, D, V, BLOCK_D, BLOCK_V, GRAD_CHANNEL_MAJOR, NORMALIZE
    )
    error = tl.load(error_ptr + token * V + rows, mask=rows < V, other=0.0)
    beta = tl.load(beta_ptr + token).to(tl.float32)
    tl.store(dv_ptr + token * V + rows, beta * pull, mask=rows < V)
    tl.store(dbeta_ptr + token, tl.sum(error * pull))
    along = tl.zeros([1, BLOCK_D], tl.float32)
    for start in range(0, D, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)[None, :]
        inside = (columns < D) & (rows < V)
        at = state_offsets(token, columns, D, V, BLOCK_V, CHANNEL_MAJOR)
        grad_at = state_offsets(token, columns, D, V, BLOCK_V, GRAD_CHANNEL_MAJOR)
        x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + grad_at, mask=inside, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + token * D + columns, mask=columns < D, other=0.0).to(tl.float32)
        k = tl.div_rn(k, scale) * inverse
        tl.store(dx_ptr + grad_at, grad - k * (beta * pull), mask=inside)
        dk = beta * tl.sum(grad * error - x * pull, 0, keep_dims=True)
        if NORMALIZE:
            along += k * dk
        else:
            tl.store(dk_ptr + token * D + columns, saturated(dk, dk_ptr), mask=columns < D)
    if NORMALIZE:
        onto = tl.sum(along)
        for start in range(0, D, BLOCK_D):
            columns = start + tl.arange(0, BLOCK_D)[None, :]
            inside = (columns < D) & (rows < V)
            at = state_offsets(token, columns, D, V, BLOCK_V, CHANNEL_MAJOR)
            grad_at = state_offsets(token, columns, D, V, BLOCK_V, GRAD_CHANNEL_MAJOR)
            x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
            grad = tl.load(grad_ptr + grad_at, mask=inside, other=0.0).to(tl.float32)
            k = tl.load(k_ptr + token * D + columns, mask=columns < D, other=0.0).to(tl.float32)
            k = tl.div_rn(k, scale) * inverse
            dk = beta * tl.sum(grad * error - x * pull, 0, keep_dims=True)
            dk = tl.div_rn((dk - k * onto) * inverse, scale)
            tl.store(dk_ptr + token * D + columns, saturated(dk, dk_ptr), mask=columns < D)


def forward(x: Tensor, k: Tensor, v: Tensor, beta: Tensor, normalize: bool, eps: float) -> tuple[Tensor, Tensor]:
    kept, channel_major = _dense(x)
    made = torch.empty_like(kept)
    error = x.new_empty(v.shape, dtype=torch.float32)
    plan, is_wide = launch_plan(*x.shape[-2:])
    kernel = wide_forward_kernel if is_wide else forward_kernel
    with torch.cuda.device_of(x):
        kernel[(beta.numel(),)](
            kept, k.contiguous(), v.contiguous(), beta.contiguous(), made, error, eps,
            CHANNEL_MAJOR=channel_major, NORMALIZE=normalize, **plan,
        )  # fmt: skip
    return _in_layout_of(x, made), error


def backward(
    grad: Tensor, x: Tensor, k: Tensor, beta: Tensor, error: Tensor, normalize: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (x, channel_major), (kept, grad_channel_major) = _dense(x), _dense(grad)
    grad_x = torch.empty_like(kept, dtype=x.dtype)
    grad_k, grad_v = k.new_empty(k.shape), torch.empty_like(error)
    grad_beta = error.new_empty(beta.shape)
    plan, is_wide = launch_plan(*x.shape[-2:])
    kernel = wide_backward_kernel if is_wide else backward_kernel
    with torch.cuda.device_of(x):
        kernel[(beta.numel(),)](
            kept, x, k.contiguous(), beta.contiguous(), error, grad_x, grad_k, grad_v, grad_beta, eps,
            CHANNEL_MAJOR=channel_major, GRAD_CHANNEL_MAJOR=grad_channel_major, NORMALIZE=normalize, **plan,
        )  # fmt: skip
    return _in_layout_of(grad, grad_x), grad_k, grad_v, grad_beta


def launch_plan(width: int, channels: int) -> tuple[dict[str, int], bool]:
    """Block sizes and warps for a state of this shape, and whether it has to be walked in blocks of D."""
    block_v = triton.next_power_of_2(channels)
    block_d = triton.next_power_of_2(width)
    is_wide = block_v * block_d > _TILE
    if is_wide:
        block_d = max(_TILE // 4 // block_v, 1)
    num_warps = min(max(block_d // 256, block_v * block_d // 1024, 1), 16)
    plan = {"D": width, "V": channels, "BLOCK_D": block_d, "BLOCK_V": block_v}
    if not is_wide:
        plan["LANE"] = max(min(block_d // (32 * num_warps), 8), 1)  # warps along D only: sums over V stay in a thread
    return plan | {"num_warps": num_warps, "enable_fp_fusion": True}, is_wide


def _dense(state: Tensor) -> tuple[Tensor, bool]:
    """The state as [..., D, V] in one of the two layouts that the kernels walk, and whether D is innermost."""
    if state.mT.is_contiguous():
        return state, True
    return state.contiguous(), False


def _in_layout_of(like: Tensor, made: Tensor) -> Tensor:
    """`made` with the strides that `torch.empty_like(like)` has, as the op's fake kernel promises."""
    out = torch.empty_like(like, dtype=made.dtype)
    return made if out.stride() == made.stride() else out.copy_(made)


KERNELS = Kernels(forward, backward)
