"""The delta rule over time in chunks, as one differentiable op with its own backward (README.md has the algebra).

Time is cut into chunks, and within a chunk the recurrence is a triangular system. Everything that does not need the
state is done for all chunks of a segment at once; only the state is carried from chunk to chunk. The op keeps its
inputs and the state at the start of each segment; the backward goes through the segments in reverse and recomputes the
rest. It is a `torch.library` custom op, so that a compiled graph holds it whole (`fullgraph=True`).
"""

# n chunks of a segment, G = B · H rows of heads, C tokens of a chunk, K key and E value dimensions of a head

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_delta.ops.delta_rule.nonfinite import all_finite, isolate, isolate_gradient
from deep_delta.ops.delta_rule.segment import Workspace, may_look, store
from deep_delta.ops.delta_rule.shapes import sequence_bounds
from deep_delta.ops.delta_rule.system import System
from deep_delta.ops.direction import compute_dtype
from deep_delta.ops.plain import first_derivative_only

CPU_CHUNK = 32
"""The most tokens of a chunk on a CPU: 64 would need fewer steps and more arithmetic, and takes a fifth longer."""
SEGMENT_NUMBERS = 4096 * 64
"""Numbers of a tensor (tokens × heads × dimensions) that are worked on at once: temporaries stay in the cache."""
SEGMENT_TOKENS = (256, 1024)
"""The least and the most tokens of a segment; a state is kept for each."""
GROUP_HEADS = 16
"""Heads (B · H) that are worked on at once at least, so that a batch of chunks is large and a segment long; of short
sequences as many more as make a segment full."""


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    chunk_size: int = 64,
    *,
    initial_state: Tensor | None = None,
    scale: float,
    normalize: bool = True,
    eps: float = 1e-6,
    fade: float = 0.0,
    cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The output and the last state. Shapes as in `deep_delta.chunk_delta_rule`."""
    o, final_state, _ = torch.ops.deep_delta.chunk_delta_rule(
        q, k, v, beta, initial_state, cu_seqlens, chunk_size, scale, normalize, eps, fade
    )
    return o, final_state


class Piece(NamedTuple):
    """A part of the batch that is scanned by itself: some rows of the batch, or one packed sequence."""

    rows: slice
    tokens: tuple[int, int]
    state: slice
    """Where its state lies along the first axis of the initial and the final state."""
    slot: int
    """The first of its segment-start states."""

    @property
    def at(self) -> tuple[slice, slice, slice]:
        return self.rows, slice(None), slice(*self.tokens)

    def of(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Its part of tensors [B, H, T, …]."""
        return tuple(x[self.at] for x in tensors)


class Plan(NamedTuple):
    """How the work is cut."""

    chunk: int
    segment: int
    """Tokens of a segment: a whole number of chunks."""
    group: int
    """Rows of the batch that are scanned together."""


def _plan(q: Tensor, v: Tensor, chunk_size: int) -> Plan:
    """No branch on a size, so that one graph holds any length and any batch."""
    B, H, T, K = q.shape
    least, most = torch.sym_min, torch.sym_max
    width = most(K, v.shape[3])
    chunk = min(chunk_size, CPU_CHUNK) if q.device.type == "cpu" else chunk_size
    heads = most(GROUP_HEADS, SEGMENT_NUMBERS // (least(T, SEGMENT_TOKENS[1]) * width))
    group = least(B, most(1, heads // H))
    fitting = SEGMENT_NUMBERS // (group * H * width)
    tokens = most(SEGMENT_TOKENS[0], least(SEGMENT_TOKENS[1], fitting))
    return Plan(chunk, most(1, tokens // chunk) * chunk, group)


def _pieces(q: Tensor, cu_seqlens: Tensor | None, plan: Plan) -> Iterator[Piece]:
    B, _, T, _ = q.shape
    if cu_seqlens is None:
        for row in range(0, B, plan.group):
            rows = slice(row, min(row + plan.group, B))
            yield Piece(rows, (0, T), rows, 0)
        return
    slot = 0
    for n, (start, end) in enumerate(sequence_bounds(cu_seqlens, T)):
        yield Piece(slice(0, 1), (start, end), slice(n, n + 1), slot)
        slot += -(-(end - start) // plan.segment)


def _state_dtype(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, initial_state: Tensor | None) -> torch.dtype:
    return compute_dtype(q, k, v, beta, *(() if initial_state is None else (initial_state,)))


def _outputs(
    q: Tensor, v: Tensor, cu_seqlens: Tensor | None, chunk_size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for the output, the final states and the segment-start states (their number without reading values).

    The last lie in one row: a graph would have to know whether an axis of as many as there are is of length 1.
    """
    B, H, _, K = q.shape
    E = v.shape[3]
    num_states = B if cu_seqlens is None else cu_seqlens.shape[0] - 1
    most = q.shape[2] // _plan(q, v, chunk_size).segment + (1 if cu_seqlens is None else num_states)
    return (
        torch.empty_like(v),
        v.new_empty((num_states, H, K, E), dtype=dtype),
        v.new_empty(most * B * H * K * E, dtype=dtype),
    )


def _by_segment(starts: Tensor, q: Tensor, v: Tensor) -> Tensor:
    """The segment-start states, [segments, B, H, K, E]."""
    B, H, _, K = q.shape
    return starts.view(-1, B, H, K, v.shape[3])


@torch.library.custom_op("deep_delta::chunk_delta_rule", mutates_args=())
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    chunk_size: int,
    scale: float,
    normalize: bool,
    eps: float,
    fade: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = _state_dtype(q, k, v, beta, initial_state)
    o, final_state, starts = _outputs(q, v, cu_seqlens, chunk_size, dtype)
    states = _by_segment(starts.zero_(), q, v)
    scan = Scan(_plan(q, v, chunk_size), scale, normalize, eps, fade, Workspace(q, dtype))
    with torch.autocast(q.device.type, enabled=False):
        for piece in _pieces(q, cu_seqlens, scan.plan):
            inputs, out, S = piece.of(q, k, v, beta), o[piece.at], final_state[piece.state]
            begins = states[piece.slot :, piece.rows]
            if initial_state is not None:
                begins[0] = initial_state[piece.state]
            if may_look(q):  # what is not finite shows itself in the last state
                scan.forward(inputs, begins, out, S)
                if all_finite(S):
                    continue
            first = begins[0].clone()  # kept as it is: the backward must see that something is not finite
            isolated = isolate(inputs, first)
            begins[0] = isolated.state
            scan.forward(isolated.inputs, begins, out, S)
            begins[0] = first
            out.masked_fill_(isolated.lost, torch.nan)
            S.masked_fill_(isolated.lost_state, torch.nan)
    return o, final_state, starts


class Scan(NamedTuple):
    """What is the same for every piece."""

    plan: Plan
    scale: float
    normalize: bool
    eps: float
    fade: float
    work: Workspace

    def segments(self, num_tokens: int) -> list[slice]:
        return [slice(t, t + self.plan.segment) for t in range(0, num_tokens, self.plan.segment)]

    def system(self, inputs: Sequence[Tensor], tokens: slice) -> System:
        q, k, v, beta = (x[:, :, tokens] for x in inputs)
        return System((q, k, v, beta), self.plan.chunk, self.normalize, self.eps, self.fade, self.work)

    def forward(self, inputs: Sequence[Tensor], begins: Tensor, out: Tensor, S: Tensor) -> None:
        """Fill the outputs, the last state S and, from the first on, the states at the beginning of each segment."""
        S.copy_(begins[0])
        for n, tokens in enumerate(self.segments(out.shape[2])):
            begins[n] = S
            store(self.system(inputs, tokens).scan(S.flatten(0, 1), self.scale), out[:, :, tokens])

    def backward(
        self,
        inputs: Sequence[Tensor],
        begins: Sequence[Tensor],
        grad_o: Tensor | None,
        grad_S: Tensor,
        grads: Sequence[Tensor],
    ) -> None:
        """Fill the inputs' gradients; grad_S goes from that of the last state to that of the first in place."""
        for n, tokens in reversed(list(enumerate(self.segments(inputs[0].shape[2])))):
            system = self.system(inputs, tokens)
            if grad_o is None:
                upstream = self.work("o", *system.write.shape).zero_()
            else:
                upstream = self.work.load("o", grad_o[:, :, tokens], system.k.shape[2]).mul_(self.scale)
            found = system.gradients(begins[n].flatten(0, 1), upstream, grad_S.flatten(0, 1))
            for grad, out in zip(found, (*grads[:3], grads[3].unsqueeze(-1)), strict=True):
                if out.dtype == torch.float16:  # near k = 0 the slope is 1/ε, beyond what fp16 can hold
                    grad.clamp_(-65504.0, 65504.0)
                store(grad, out[:, :, tokens])


@_forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    initial_state: Tensor | None,
    cu_seqlens: Tensor | None,
    chunk_size: int,
    *options: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(q, v, cu_seqlens, chunk_size, _state_dtype(q, k, v, beta, initial_state))


@torch.library.custom_op("deep_delta::chunk_delta_rule_backward", mutates_args=())
def _backward(
    grad_o: Tensor | None,
    grad_final: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    starts: Tensor,
    cu_seqlens: Tensor | None,
    chunk_size: int,
    scale: float,
    normalize: bool,
    eps: float,
    fade: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grads, states = _gradient_outputs(q, k, v, beta, starts, cu_seqlens), _by_segment(starts, q, v)
    scan = Scan(_plan(q, v, chunk_size), scale, normalize, eps, fade, Workspace(q, starts.dtype))
    with torch.autocast(q.device.type, enabled=False):
        for piece in _pieces(q, cu_seqlens, scan.plan):
            inputs, made = piece.of(q, k, v, beta), piece.of(*grads[:4])
            grad_S = grads[4][piece.state]
            begins = states[piece.slot :, piece.rows].unbind(0)
            upstream = None if grad_o is None else grad_o[piece.at]
            grad_S.zero_() if grad_final is None else grad_S.copy_(grad_final[piece.state])
            if may_look(q):
                scan.backward(inputs, begins, upstream, grad_S, made)
                if all_finite(made[3]):  # what is not finite anywhere else has reached the gates too
                    continue
                grad_S.zero_() if grad_final is None else grad_S.copy_(grad_final[piece.state])
            isolated = isolate(inputs, begins[0])
            if upstream is not None:
                upstream = isolate_gradient(upstream, isolated.lost)
            grad_S.copy_(isolate_gradient(grad_S, isolated.lost_state))
            scan.backward(isolated.inputs, (isolated.state, *begins[1:]), upstream, grad_S, made)
    return grads


def _gradient_outputs(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, starts: Tensor, cu_seqlens: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    num_states = q.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    state = starts.new_empty((num_states, q.shape[1], q.shape[3], v.shape[3]))
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), torch.empty_like(beta), state


@_backward.register_fake
def _(
    grad_o: Tensor | None,
    grad_final: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    starts: Tensor,
    cu_seqlens: Tensor | None,
    *options: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradient_outputs(q, k, v, beta, starts, cu_seqlens)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    q, k, v, beta, initial_state, cu_seqlens, *options = inputs
    starts = output[2]
    ctx.save_for_backward(q, k, v, beta, starts, cu_seqlens)
    ctx.options = options
    ctx.state_dtype = None if initial_state is None else initial_state.dtype
    ctx.mark_non_differentiable(starts)
    ctx.set_materialize_grads(False)


@first_derivative_only
def _gradients(ctx: Any, grad_o: Tensor | None, grad_final: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad_o is None and grad_final is None:
        return (None,) * 11
    q, k, v, beta, starts, cu_seqlens = ctx.saved_tensors
    *grads, grad_initial = torch.ops.deep_delta.chunk_delta_rule_backward(
        grad_o, grad_final, q, k, v, beta, starts, cu_seqlens, *ctx.options
    )
    return *grads, None if ctx.state_dtype is None else grad_initial.to(ctx.state_dtype), *(None,) * 6


_forward.register_autograd(_gradients, setup_context=_setup)
