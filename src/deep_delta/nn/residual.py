"""The residual stream as an interface: how a sublayer's output enters the state.

A sublayer sees only its input vector. Around it, a `ResidualStream` *proposes* a `Rewrite` from the sublayer's output,
and the next boundary *writes* it into the state, reads the state through a compressor and normalises. Proposing holds
all the parameters of the earlier sublayer and writing holds none, so a whole boundary (`step`) belongs to the sublayer
being entered, a block can be sharded as a unit, and the boundary runs as one operator (`deep_delta.ops.stream_step`).
"""

# B batch, T time, V value channels, D width, P heads

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deep_delta.errors import ConfigError
from deep_delta.nn.branches import GateHead, Heads, ValueHead
from deep_delta.nn.compress import BoundaryCache, Compressor
from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.parts import Watch, call, untouched
from deep_delta.ops import delta_update, normalize_direction
from deep_delta.ops.stream_step import continue_step, stream_step


class Rewrite(NamedTuple):
    """What a sublayer wants written: `value` [B, T, V] along `direction` [B, T, D] (k̃, not normalised), gated by `beta`
    [B, T, 1].

    In an additive stream `direction` is the sublayer's output and value and beta are None; hyper-connections have a
    value and no beta, and normalise nothing. `carry` goes with the state that is written to, where states are rebuilt
    in the backward pass (see `deep_delta.ops.stream_step`).
    """

    direction: Tensor
    value: Tensor | None = None
    beta: Tensor | None = None
    carry: Tensor | None = None

    @classmethod
    def of(cls, direction: Tensor | None, *others: Tensor | None) -> Rewrite | None:
        """The rewrite made of these; None where there is no direction, so that nothing is written."""
        return None if direction is None else cls(direction, *others)


class Reading(NamedTuple):
    """What a sublayer gets to see at its boundary: the compressed state `x` and `c` = norm(x), both [B, T, D].

    `scores` [B, T, V] and `beta` [B, T, 1] are the stream's `Heads` on c, where the boundary has computed them already;
    `value` [B, T, V] is what the sublayer's output will be written with, where reading decides that too.
    """

    x: Tensor
    c: Tensor
    scores: Tensor | None = None
    beta: Tensor | None = None
    carry: Tensor | None = None
    value: Tensor | None = None


class Boundary:
    """Where the next sublayer, or the output layer, reads: the compressor, the norm, and what decoding carries there.

    `compress` is None for streams that read by weights of their own. Neither a tuple nor a dataclass: wrappers leave
    it as it is.
    """

    __slots__ = ("cache", "compress", "norm")

    def __init__(self, compress: nn.Module | None, norm: nn.Module, cache: BoundaryCache | None = None) -> None:
        self.compress, self.norm, self.cache = compress, norm, cache


class ResidualStream(nn.Module):
    """The interface. States are channel-major, [B, T, V, D]: the paper's X transposed, because D is then contiguous.

    A kind says how it writes and what it proposes; `step` follows from the two. One whose boundary runs as one operator
    is a `FusedStream`.
    """

    def propose(self, reading: Reading, h_BTD: Tensor) -> Rewrite:
        """From what the sublayer has read and its output h: what to write."""
        raise NotImplementedError

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        """The state after a rewrite. Holds no parameters: any stream of the same kind may write another's proposal."""
        raise NotImplementedError

    def forward(self, state_BTVD: Tensor, rewrite: Rewrite | None, boundary: Boundary) -> tuple[Tensor, Reading]:
        """`step`, as a call that hooks and wrappers see."""
        return self.step(state_BTVD, rewrite, boundary)

    def step(self, state_BTVD: Tensor, rewrite: Rewrite | None, boundary: Boundary) -> tuple[Tensor, Reading]:
        """Across a sublayer boundary: write, then read and normalise for the next sublayer.

        With a cache the tokens go on from those of earlier calls, and it is updated.
        """
        carry = None
        if rewrite is not None:
            state_BTVD, carry = self._written(state_BTVD, rewrite)
        assert boundary.compress is not None
        x_BTD = call(boundary.compress, "a compressor", state_BTVD, cache=boundary.cache)
        return state_BTVD, Reading(x_BTD, boundary.norm(x_BTD), carry=carry)

    def _written(self, state_BTVD: Tensor, rewrite: Rewrite) -> tuple[Tensor, Tensor | None]:
        """The state after a rewrite, and its carry."""
        return self.write(state_BTVD, rewrite), None


class FusedStream(ResidualStream):
    """A kind whose boundary is one operator (`deep_delta.ops.stream_step`), where its parts are as they were made.

    A compressor, norm, gate or value that was replaced, wrapped or hooked is called as a module instead; so is a
    subclass's own `write`.
    """

    erase = True
    """Whether what was read along the direction is erased."""
    eps = 0.0
    """ε of the direction's normalisation."""
    rebuild = False
    """Rebuild the states in the backward pass instead of storing them."""

    def heads(self) -> Heads:
        """What `propose` wants of c; the boundary may compute it in one pass with c itself."""
        return Heads()

    def step(self, state_BTVD: Tensor, rewrite: Rewrite | None, boundary: Boundary) -> tuple[Tensor, Reading]:
        if rewrite is not None and rewrite.carry is not None:
            _check_carried(state_BTVD, rewrite.carry)
        weights = None if rewrite is None else self._weights(boundary)
        if rewrite is None or weights is None:
            return super().step(state_BTVD, rewrite, boundary)
        (read_SVD, heads), norm, cache = weights, boundary.norm, boundary.cache
        assert isinstance(norm, RMSNorm)
        direction, value, beta, carry = rewrite
        options: dict[str, Any] = {"erase": self.erase, "eps": self.eps, "norm_eps": norm.eps}
        if cache is not None and read_SVD is not None and len(read_SVD) > 1:
            out, cache.tensor = continue_step(
                state_BTVD, direction, value, beta, read_SVD, norm.weight, *heads, cache.tensor, **options
            )
        else:
            keep = not self.rebuild
            out = stream_step(
                state_BTVD, direction, value, beta, read_SVD, norm.weight, *heads, carry=carry, keep=keep, **options
            )
        return out.state, Reading(out.x, out.c, out.scores, out.gates, out.carry)

    def _weights(self, boundary: Boundary) -> tuple[Tensor | None, Heads] | None:
        """The weights of an operator that computes just what the parts would; None where those have to be called."""
        cache, compress, norm = boundary.cache, boundary.compress, boundary.norm
        if type(self) not in _FUSED or "write" in self.__dict__ or not isinstance(compress, Compressor):
            return None
        if cache is not None and cache.fused is not None and cache.fused[0].holds(self, compress, norm):
            return compress.read_weight(), cache.fused[1]
        if type(norm) is not RMSNorm or not untouched(norm) or not untouched(compress):
            return None
        heads = self.heads()
        if cache is not None and not torch.compiler.is_compiling():
            cache.fused = Watch(self, compress, norm), heads
        return compress.read_weight(), heads

    def _written(self, state_BTVD: Tensor, rewrite: Rewrite) -> tuple[Tensor, Tensor | None]:
        if not self.rebuild and rewrite.carry is None:
            return super()._written(state_BTVD, rewrite)
        if type(self) not in _FUSED or "write" in self.__dict__:
            raise ConfigError(
                f"{type(self).__name__} writes in a way of its own, which state_storage rebuilt cannot undo; use stored"
            )
        direction, value, beta, carry = rewrite
        channels, width = state_BTVD.shape[2:]
        unread = None if channels == 1 else state_BTVD.new_zeros(1, channels, width)
        out = stream_step(
            state_BTVD, direction, value, beta, unread, state_BTVD.new_ones(width),
            erase=self.erase, eps=self.eps, carry=carry, keep=not self.rebuild,
        )  # fmt: skip
        return out.state, out.carry


class AdditiveStream(FusedStream):
    """x + h: what every residual network does; one value channel."""

    def propose(self, reading: Reading, h_BTD: Tensor) -> Rewrite:
        return Rewrite(h_BTD, carry=reading.carry)

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        return state_BTVD + rewrite.direction.to(state_BTVD.dtype).unsqueeze(2)


class DeltaStream(FusedStream):
    """X + β k (vᵀ − kᵀX)  (DDL, Eq. 2.2).

    Mapping `k_map` (the paper's): k̃ = h and v = value(source), where the source is the `context` c, the `state` x or
    the `branch` h. Mapping `v_map`, chosen by giving `key`: v = value(h) and k̃ = key(c). β = gate(c) in both.

    Without a gate and a value it proposes nothing: so it ends a model.
    """

    def __init__(
        self,
        gate: nn.Module | None = None,
        value: nn.Module | None = None,
        *,
        key: nn.Module | None = None,
        value_source: str = "context",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.gate, self.value, self.key = gate, value, key
        self.value_source, self.eps = value_source, eps

    def heads(self) -> Heads:
        """The projections that are plain ones and read c."""
        value, gate = self.value, self.gate
        reads_c = self.value_source == "context" and self.key is None
        rows = value.rows() if reads_c and isinstance(value, ValueHead) else None
        row, bias = (gate.row() if isinstance(gate, GateHead) else None) or (None, None)
        return Heads(rows, row, bias)

    def propose(self, reading: Reading, h_BTD: Tensor) -> Rewrite:
        value, key, beta_BT1 = self.value, self.key, reading.beta
        assert self.gate is not None
        assert value is not None
        if beta_BT1 is None:
            beta_BT1 = self.gate(reading.c)
        if reading.scores is not None:
            assert isinstance(value, ValueHead)
            value_BTV = value.activate(reading.scores)
        else:
            source = {"context": reading.c, "state": reading.x, "branch": h_BTD}[self.value_source]
            value_BTV = value(source if key is None else h_BTD)
        return Rewrite(h_BTD if key is None else key(reading.c), value_BTV, beta_BT1, reading.carry)

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        assert rewrite.value is not None
        assert rewrite.beta is not None
        return delta_update(state_BTVD.mT, rewrite.direction, rewrite.value, rewrite.beta, eps=self.eps).mT


class WriteOnlyStream(DeltaStream):
    """X + β k vᵀ: the matched control, with the same generators as `DeltaStream` and nothing erased."""

    erase = False

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        assert rewrite.value is not None
        assert rewrite.beta is not None
        k_BTD = normalize_direction(rewrite.direction, self.eps)
        written = (rewrite.beta * rewrite.value).unsqueeze(-1) * k_BTD.unsqueeze(2)
        return state_BTVD + written.to(state_BTVD.dtype)


def _check_carried(state: Tensor, carry: Tensor) -> None:
    """The state is the one that the carry was made with: of the same node of the graph."""
    if torch.compiler.is_compiling() or carry.grad_fn is None:
        return
    if state.grad_fn is not carry.grad_fn:
        raise ConfigError(
            "with state_storage rebuilt a state has to reach the next boundary as it was made, and something between "
            "changed it (a hook or a wrapper around a block or a sublayer); use stored"
        )


_FUSED = (AdditiveStream, DeltaStream, WriteOnlyStream)
"""What `stream_step` computes; a subclass may write otherwise."""
