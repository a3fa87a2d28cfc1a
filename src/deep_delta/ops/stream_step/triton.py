"""The boundary step as Triton kernels: a program walks a tile of tokens of one sequence, each token in registers.

Walking lets a token's state meet the next tokens' reads without going through memory: what a token adds to the S − 1
reads after it waits in registers. Only at the edge of a tile is anything done twice: forward rewrites the S − 1 tokens
before it once more, backward takes the S − 1 tokens after it through the norm once more. Gradients of the weights
gather in registers, leave as one partial sum a program, and are summed in a fixed order: no atomics.
"""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from deep_delta.errors import BackendError
from deep_delta.ops.stream_step.arguments import StepArguments
from deep_delta.ops.stream_step.op import Forward, Gradients, Saved, Upstream
from deep_delta.ops.triton_direction import direction, saturated

_FORWARD_WARPS = 132 * 32
_BACKWARD_WARPS = 132 * 16
"""About how many warps share the tokens: so many on each of an H200's 132 processors. Fewer backward, where a program
needs more registers and leaves partial sums behind."""
_SHORTEST_TILE = 4


@triton.jit
def load_tap(read_ptr, tap, rows, columns, inside, D: tl.constexpr, V: tl.constexpr):
    return tl.load(read_ptr + (tap * V + rows) * D + columns, mask=inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=("length", "tile"))  # one kernel for every length
@no_type_check  # tuples that grow as the loops over taps unroll
def forward_kernel(
    state_ptr, k_ptr, v_ptr, beta_ptr, read_ptr, gain_ptr, heads_ptr, gate_ptr, gate_bias_ptr,
    out_ptr, x_ptr, c_ptr, scores_ptr, gates_ptr, delta_ptr, inverse_norm_ptr, inverse_rms_ptr,
    length, tile, eps, norm_eps,
    D: tl.constexpr, V: tl.constexpr, S: tl.constexpr, P: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_P: tl.constexpr,
    LANE: tl.constexpr, ERASE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    columns = tl.max_contiguous(tl.arange(0, BLOCK_D), LANE)[None, :]
    rows, head_rows = tl.arange(0, BLOCK_V)[:, None], tl.arange(0, BLOCK_P)[:, None]
    in_width, in_state, in_heads = columns < D, (rows < V) & (columns < D), (head_rows < P) & (columns < D)
    gain = tl.load(gain_ptr + columns, mask=in_width, other=0.0).to(tl.float32)
    if S == 1:
        only_tap = load_tap(read_ptr, 0, rows, columns, in_state, D, V)
    late = ()  # what the tokens so far add to the next S − 1 reads
    for _ in tl.static_range(S - 1):
        late = late + (tl.zeros([1, BLOCK_D], tl.float32),)
    start = tl.program_id(0) * tile
    end = tl.minimum(start + tile, length)
    before = tl.program_id(1).to(tl.int64) * length
    zero = tl.zeros([1, 1], tl.int32)  # makes a mask a block, which the interpreter needs to combine it with others
    for t in tl.range(tl.maximum(start - (S - 1 if S > 1 else 0), 0), end, num_stages=STAGES):
        token = before + t
        own = t + zero >= start
        at = token * (V * D) + rows * D + columns
        state = tl.load(state_ptr + at, mask=in_state, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + token * D + columns, mask=in_width, other=0.0).to(tl.float32)
        if v_ptr is None:
            state += k
        else:
            delta = tl.load(v_ptr + token * V + rows, mask=rows < V, other=0.0).to(tl.float32)
            beta = tl.load(beta_ptr + token).to(tl.float32)
            k, scale, inverse = direction(k, eps)
            if ERASE:
                delta -= tl.sum(state * k, 1, keep_dims=True)
            state += k * (beta * delta)
            tl.store(delta_ptr + token * V + rows, delta, mask=(rows < V) & own)
            tl.store(inverse_norm_ptr + token, tl.div_rn(inverse, scale), mask=t >= start)
        made = state.to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + at, made, mask=in_state & own)
        state = made.to(tl.float32)  # it is read as it was rounded
        if S == 0:
            x = tl.sum(state, 0, keep_dims=True)  # of the one channel
        elif S == 1:
            x = tl.sum(state * only_tap, 0, keep_dims=True)
        else:
            x = late[0] + tl.sum(state * load_tap(read_ptr, S - 1, rows, columns, in_state, D, V), 0, keep_dims=True)
            next_late = ()
            for age in tl.static_range(1, S):
                tap = load_tap(read_ptr, S - 1 - age, rows, columns, in_state, D, V)
                added = tl.sum(state * tap, 0, keep_dims=True)
                next_late = next_late + (added + late[age] if age < S - 1 else added,)
            late = next_late
        inverse_rms = tl.rsqrt(tl.sum(x * x) / D + norm_eps)
        c = x * inverse_rms * gain
        if S > 0:
            tl.store(x_ptr + token * D + columns, x, mask=in_width & own)
        tl.store(c_ptr + token * D + columns, c, mask=in_width & own)
        tl.store(inverse_rms_ptr + token, inverse_rms, mask=t >= start)
        if P > 0:
            heads = tl.load(heads_ptr + head_rows * D + columns, mask=in_heads, other=0.0).to(tl.float32)
            scores = tl.sum(heads * c, 1, keep_dims=True)
            tl.store(scores_ptr + token * P + head_rows, scores, mask=(head_rows < P) & own)
        if gate_ptr is not None:
            gate = tl.load(gate_ptr + columns, mask=in_width, other=0.0).to(tl.float32)
            logit = tl.sum(gate * c) + tl.load(gate_bias_ptr).to(tl.float32)
            tl.store(gates_ptr + token, 2.0 * tl.sigmoid(logit), mask=t >= start)


@triton.jit(do_not_specialize=("length", "tile"))  # one kernel for every length
@no_type_check
def backward_kernel(
    grad_state_ptr, grad_x_ptr, grad_c_ptr, grad_scores_ptr, grad_gates_ptr,
    state_ptr, k_ptr, beta_ptr, read_ptr, gain_ptr, heads_ptr, gate_ptr, x_ptr, gates_ptr, delta_ptr,
    inverse_norm_ptr, inverse_rms_ptr,
    dstate_ptr, dk_ptr, dv_ptr, dbeta_ptr, partial_ptr, rebuilt_ptr,
    length, tile,
    D: tl.constexpr, V: tl.constexpr, S: tl.constexpr, P: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_P: tl.constexpr,
    LANE: tl.constexpr, ERASE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    columns = tl.max_contiguous(tl.arange(0, BLOCK_D), LANE)[None, :]
    rows, head_rows = tl.arange(0, BLOCK_V)[:, None], tl.arange(0, BLOCK_P)[:, None]
    in_width, in_state, in_heads = columns < D, (rows < V) & (columns < D), (head_rows < P) & (columns < D)
    gain = tl.load(gain_ptr + columns, mask=in_width, other=0.0).to(tl.float32)
    if S == 1:
        only_tap = load_tap(read_ptr, 0, rows, columns, in_state, D, V)
    later = ()  # the gradients of the next S − 1 reads
    for _ in tl.static_range(S - 1):
        later = later + (tl.zeros([1, BLOCK_D], tl.float32),)
    read_sums = ()  # by age: the last is the oldest tap's
    for _ in tl.static_range(S):
        read_sums = read_sums + (tl.zeros([BLOCK_V, BLOCK_D], tl.float32),)
    gain_sum = tl.zeros([1, BLOCK_D], tl.float32)
    head_sums = tl.zeros([BLOCK_P, BLOCK_D], tl.float32)
    gate_sum = tl.zeros([1, BLOCK_D], tl.float32)
    bias_sum = tl.zeros([1, 1], tl.float32)
    start = tl.program_id(0) * tile
    end = tl.minimum(start + tile, length)
    last = tl.minimum(end + (S - 1 if S > 1 else 0), length) - 1
    before = tl.program_id(1).to(tl.int64) * length
    zero = tl.zeros([1, 1], tl.int32)  # makes a mask a block, which the interpreter needs to combine it with others
    for step in tl.range(0, last - start + 1, num_stages=STAGES):
        t = last - step
        token = before + t
        own = t + zero < end
        at = token * (V * D) + rows * D + columns
        state = tl.load(state_ptr + at, mask=in_state & own, other=0.0).to(tl.float32)
        # through the norm, to the gradient of the read
        if S == 0:
            x = tl.sum(state, 0, keep_dims=True)
        elif S == 1:
            x = tl.sum(state * only_tap, 0, keep_dims=True)
        else:
            x = tl.load(x_ptr + token * D + columns, mask=in_width, other=0.0).to(tl.float32)
        inverse_rms = tl.load(inverse_rms_ptr + token)
        unit = x * inverse_rms
        pull = tl.zeros([1, BLOCK_D], tl.float32)
        if grad_c_ptr is not None:
            pull += tl.load(grad_c_ptr + token * D + columns, mask=in_width, other=0.0).to(tl.float32)
        if grad_scores_ptr is not None:
            grad_scores = tl.load(grad_scores_ptr + token * P + head_rows, mask=head_rows < P, other=0.0)
            heads = tl.load(heads_ptr + head_rows * D + columns, mask=in_heads, other=0.0).to(tl.float32)
            pull += tl.sum(heads * grad_scores, 0, keep_dims=True)
            head_sums += tl.where(own, grad_scores, 0.0) * unit
        if grad_gates_ptr is not None:
            opened = tl.load(gates_ptr + token)
            logit = tl.load(grad_gates_ptr + token).to(tl.float32) * opened * (1.0 - 0.5 * opened)
            pull += tl.load(gate_ptr + columns, mask=in_width, other=0.0).to(tl.float32) * logit
            own_logit = tl.where(own, logit, 0.0)
            gate_sum += own_logit * unit
            bias_sum += own_logit
        gain_sum += tl.where(own, pull * unit, 0.0)
        pull *= gain
        pull = (pull - unit * (tl.sum(pull * unit) / D)) * inverse_rms
        if grad_x_ptr is not None:
            pull += tl.load(grad_x_ptr + token * D + columns, mask=in_width, other=0.0).to(tl.float32)
        # through the read, to the gradient of the state that was made
        if S == 0:
            grad = tl.where(in_state, pull, 0.0)
        elif S == 1:
            grad = pull * only_tap
            read_sums = (read_sums[0] + pull * state,)
        else:
            pulls = (pull,) + later
            grad = tl.zeros([BLOCK_V, BLOCK_D], tl.float32)
            next_sums = ()
            for age in tl.static_range(S):
                grad += pulls[age] * load_tap(read_ptr, S - 1 - age, rows, columns, in_state, D, V)
                next_sums = next_sums + (read_sums[age] + pulls[age] * state,)
            read_sums = next_sums
            later = ()
            for age in tl.static_range(S - 1):
                later = later + (pulls[age],)
        if grad_state_ptr is not None:
            grad += tl.load(grad_state_ptr + at, mask=in_state & own, other=0.0).to(tl.float32)
        # through the rewrite
        k = tl.load(k_ptr + token * D + columns, mask=in_width & own, other=0.0).to(tl.float32)
        if beta_ptr is None:
            step_back = k
            dk = tl.sum(grad, 0, keep_dims=True)
        else:
            beta = tl.load(beta_ptr + token).to(tl.float32)
            delta = tl.load(delta_ptr + token * V + rows, mask=rows < V, other=0.0)
            inverse_norm = tl.load(inverse_norm_ptr + token)
            k *= inverse_norm
            step_back = k * (beta * delta)
            readout = tl.sum(grad * k, 1, keep_dims=True)  # g = Gᵀk
            dbeta = tl.sum(delta * readout)
            if ERASE:
                dk = tl.sum(grad * delta - state * readout, 0, keep_dims=True) + k * (beta * dbeta)
                grad -= k * (beta * readout)
            else:
                dk = tl.sum(grad * delta, 0, keep_dims=True)
            dk = beta * (dk - k * tl.sum(k * dk)) * inverse_norm
            tl.store(dv_ptr + token * V + rows, beta * readout, mask=(rows < V) & own)
            tl.store(dbeta_ptr + token, dbeta, mask=t < end)
        tl.store(dstate_ptr + at, grad, mask=in_state & own)
        tl.store(dk_ptr + token * D + columns, saturated(dk, dk_ptr), mask=in_width & own)
        if rebuilt_ptr is not None:
            tl.store(rebuilt_ptr + at, state - step_back, mask=in_state & own)
    program = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
    partial = partial_ptr + program * ((S * V + 1 + P) * D + (D + 1 if gate_ptr is not None else 0))
    for age in tl.static_range(S):
        tl.store(partial + ((S - 1 - age) * V + rows) * D + columns, read_sums[age], mask=in_state)
    tl.store(partial + S * V * D + columns, gain_sum, mask=in_width)
    if P > 0:
        tl.store(partial + (S * V + 1 + head_rows) * D + columns, head_sums, mask=in_heads)
    if gate_ptr is not None:
        tl.store(partial + (S * V + 1 + P) * D + columns, gate_sum, mask=in_width)
        tl.store(partial + (S * V + 2 + P) * D + zero, bias_sum)


def forward(step: StepArguments) -> Forward:
    if step.dtype != torch.float32:
        raise BackendError(f"backend 'triton' of stream_step computes in fp32 and an operand is {step.dtype}")
    state, k, v, beta, read, gain, heads, gate, gate_bias = (_contiguous(tensor) for tensor in step[:9])
    assert state is not None
    assert k is not None
    taps, num_heads = 0 if read is None else len(read), 0 if heads is None else len(heads)
    batch, length, channels, width = state.shape
    tokens = (batch, length)
    made, c = torch.empty_like(state), state.new_empty(k.shape)
    x = state.new_empty(0 if read is None else k.shape)
    scores = state.new_empty(0 if heads is None else (*tokens, num_heads), dtype=torch.float32)
    gates = state.new_empty(0 if gate is None else (*tokens, 1), dtype=torch.float32)
    delta = state.new_empty(0 if v is None else v.shape, dtype=torch.float32)
    inverse_norm = state.new_empty(0 if v is None else (*tokens, 1), dtype=torch.float32)
    inverse_rms = state.new_empty((*tokens, 1), dtype=torch.float32)
    plan = launch_plan(channels, width, taps, num_heads, backward=False)
    grid, length, tile = _tiles(batch, length, taps, _FORWARD_WARPS // plan["num_warps"])
    with torch.cuda.device_of(state):
        forward_kernel[grid](
            state, k, v, beta, read, gain, heads, gate, gate_bias,
            made, x, c, scores, gates, delta, inverse_norm, inverse_rms,
            length, tile, step.eps, step.norm_eps, ERASE=step.erase, **plan,
        )  # fmt: skip
    return Forward(made, x, c, scores, gates, delta, inverse_norm, inverse_rms)


def backward(saved: Saved, upstream: Upstream) -> Gradients:
    state, k, beta, read, gain, heads, gate, x = (_contiguous(tensor) for tensor in saved[:8])
    assert state is not None
    assert k is not None
    taps, num_heads = 0 if read is None else len(read), 0 if heads is None else len(heads)
    batch, length, channels, width = state.shape
    dstate, dk = torch.empty_like(state, dtype=saved.dtype), torch.empty_like(k)
    dv, dbeta = torch.empty_like(saved.delta), saved.delta.new_empty(0 if beta is None else beta.shape)
    rebuilt = torch.empty_like(state, dtype=torch.float32) if saved.rebuild else None
    plan = launch_plan(channels, width, taps, num_heads, backward=True)
    grid, length, tile = _tiles(batch, length, taps, _BACKWARD_WARPS // plan["num_warps"])
    sizes = (taps * channels * width, width, num_heads * width, *((0, 0) if gate is None else (width, 1)))
    partial = saved.inverse_rms.new_empty(grid[0] * grid[1], sum(sizes))
    with torch.cuda.device_of(state):
        backward_kernel[grid](
            *(_contiguous(grad) for grad in upstream),
            state, k, beta, read, gain, heads, gate, x, saved.gates, saved.delta,
            saved.inverse_norm, saved.inverse_rms,
            dstate, dk, dv, dbeta, partial, rebuilt, length, tile, ERASE=saved.erase, **plan,
        )  # fmt: skip
    sums = partial.sum(0)
    dread, dgain, dheads, dgate, dbias = sums.split(sizes)
    return Gradients(
        dstate, dk, dv, dbeta,
        sums.new_empty(0) if read is None else dread.clone().view(read.shape),
        dgain.clone(),
        sums.new_empty(0) if heads is None else dheads.view(heads.shape) * saved.gain,
        sums.new_empty(0) if gate is None else dgate.view(gate.shape) * saved.gain,
        dbias.clone(),
        sums.new_empty(0) if rebuilt is None else rebuilt,
    )  # fmt: skip


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _tiles(batch: int, length: int, taps: int, programs: int) -> tuple[tuple[int, int], int, int]:
    """The grid (tiles of a sequence, sequences), the sequences' length and the tiles'. Tokens that no read connects
    are one long sequence."""
    if taps <= 1:
        batch, length = 1, batch * length
    tile = max(triton.cdiv(length, max(programs // batch, 1)), _SHORTEST_TILE)
    return (triton.cdiv(length, tile), batch), length, tile


def launch_plan(channels: int, width: int, taps: int, num_heads: int, *, backward: bool) -> dict[str, int]:
    """Block sizes and warps. Warps lie along D only, so that sums over V and over heads stay within a thread."""
    block_d, block_v = triton.next_power_of_2(width), triton.next_power_of_2(channels)
    block_p = triton.next_power_of_2(max(num_heads, 1))
    live = block_v + taps * block_v + block_p + 9  # vectors of width D that are in registers at a time
    if backward:
        live += block_v * (1 + taps) + block_p + 1
    lane = next(size for size in (8, 4, 2, 1) if live * size <= 192 or size == 1)
    num_warps = min(max(block_d // (32 * lane), 1), 16)
    # Left to itself, the assembler spills a few registers to fit a third program of 8 warps into a processor's 65,536.
    registers = {"maxnreg": 128} if taps > 1 and not backward and num_warps == 8 else {}
    return {
        "D": width, "V": channels, "S": taps, "P": num_heads,
        "BLOCK_D": block_d, "BLOCK_V": block_v, "BLOCK_P": block_p, "LANE": min(lane, 4),
        "STAGES": 1,  # 2 would load a token ahead, at the price of occupancy
        "num_warps": num_warps, "enable_fp_fusion": True, **registers,
    }  # fmt: skip
