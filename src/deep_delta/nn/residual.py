"""The residual stream as an interface: how a sublayer's output enters the state.

A sublayer sees only its input vector. Around it, a `ResidualStream` *proposes* a `Rewrite` from the sublayer's output,
and the next boundary *writes* it into the state, reads the state through a compressor and normalises. Proposing holds
all the parameters of the earlier sublayer and writing holds none, so a whole boundary (`step`) belongs to the sublayer
being entered: a fused implementation overrides that one method, and a block can be sharded as a unit.
"""

# B batch, T time, V value channels, D width

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from deep_delta.nn.branches import GateHead
from deep_delta.nn.short_conv import ConvTail
from deep_delta.ops import delta_update, normalize_direction


class Rewrite(NamedTuple):
    """What a sublayer wants written: `value` [B, T, V] along `direction` [B, T, D] (k̃, not normalised), gated by `beta`
    [B, T, 1].

    In an additive stream `direction` is the sublayer's output and the others are None.
    """

    direction: Tensor
    value: Tensor | None = None
    beta: Tensor | None = None


class ResidualStream(nn.Module):
    """The interface. States are channel-major, [B, T, V, D]: the paper's X transposed, because D is then contiguous."""

    def propose(self, x_BTD: Tensor, c_BTD: Tensor, h_BTD: Tensor) -> Rewrite:
        """From the compressed state x, the sublayer's input c = norm(x) and its output h: what to write."""
        raise NotImplementedError

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        """The state after a rewrite. Holds no parameters: any stream of the same kind may write another's proposal."""
        raise NotImplementedError

    def step(
        self, state_BTVD: Tensor, rewrite: Rewrite | None, compress: nn.Module, norm: nn.Module, tail: ConvTail | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Across a sublayer boundary: write, then read and normalise for the next sublayer; (state, x, c)."""
        if rewrite is not None:
            state_BTVD = self.write(state_BTVD, rewrite)
        x_BTD = compress(state_BTVD, tail)
        return state_BTVD, x_BTD, norm(x_BTD)


class AdditiveStream(ResidualStream):
    """x + h: what every residual network does; one value channel."""

    def propose(self, x_BTD: Tensor, c_BTD: Tensor, h_BTD: Tensor) -> Rewrite:
        return Rewrite(h_BTD)

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        return state_BTVD + rewrite.direction.to(state_BTVD.dtype).unsqueeze(2)


class DeltaStream(ResidualStream):
    """X + β k (vᵀ − kᵀX)  (DDL, Eq. 2.2).

    Mapping `k_map` (the paper's): k̃ = h and v = value(source), where the source is the `context` c, the `state` x or
    the `branch` h. Mapping `v_map`, chosen by giving `key`: v = value(h) and k̃ = key(c). β = gate(c) in both.
    """

    def __init__(
        self,
        gate: GateHead,
        value: nn.Module,
        *,
        key: nn.Linear | None = None,
        value_source: str = "context",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.gate, self.value, self.key = gate, value, key
        self.value_source, self.eps = value_source, eps

    def propose(self, x_BTD: Tensor, c_BTD: Tensor, h_BTD: Tensor) -> Rewrite:
        beta_BT1 = self.gate(c_BTD)
        if self.key is not None:
            return Rewrite(self.key(c_BTD), self.value(h_BTD), beta_BT1)
        source = {"context": c_BTD, "state": x_BTD, "branch": h_BTD}[self.value_source]
        return Rewrite(h_BTD, self.value(source), beta_BT1)

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        assert rewrite.value is not None
        assert rewrite.beta is not None
        return delta_update(state_BTVD.mT, rewrite.direction, rewrite.value, rewrite.beta, eps=self.eps).mT


class WriteOnlyStream(DeltaStream):
    """X + β k vᵀ: the matched control, with the same generators as `DeltaStream` and nothing erased."""

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        assert rewrite.value is not None
        assert rewrite.beta is not None
        k_BTD = normalize_direction(rewrite.direction, self.eps)
        written = (rewrite.beta * rewrite.value).unsqueeze(-1) * k_BTD.unsqueeze(2)
        return state_BTVD + written.to(state_BTVD.dtype)
