"""Hyper-connections: several residual streams, which each sublayer reads, mixes and writes by learned weights."""

# B batch, T time, V streams, D width

from __future__ import annotations

import torch
from torch import Tensor, nn

from deep_delta.nn.compress import BoundaryCache, Compressor
from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.residual import Reading, ResidualStream, Rewrite
from deep_delta.ops.hyper_connection import hyper_connection, write


class HyperStream(ResidualStream):
    """x = A_mᵀ H, then A_rᵀ H + B hᵀ: dynamic hyper-connections over V streams H  (arXiv 2409.19606, Eqs. 10 to 13).

    A_m, A_r = static + s_α tanh(norm(H) W) and B = static + s_β tanh(norm(H) W), token by token, where norm is an
    RMSNorm over D without a weight of its own, which W would absorb. `static` [V, V + 2] holds A_m, A_r and B side by
    side, `dynamic.weight` [V + 2, D] their W, and `scale` [2] holds s_α and s_β.

    At the start W = 0, B = 1, A_r is the identity and A_m = e_{index mod V}, where `index` is the sublayer's number:
    streams that are equal stay equal, and each is the residual stream of an ordinary pre-norm network. As in the
    paper, W decays in training and `static` does not. Unlike there, the sublayers' output matrices are not scaled by
    √V at the start, so that training starts where the additive baseline does.
    """

    def __init__(self, d_model: int, num_streams: int, index: int, *, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.norm_eps = norm_eps
        read = torch.zeros(num_streams, 1)
        read[index % num_streams] = 1.0
        self.static = nn.Parameter(torch.cat((read, torch.eye(num_streams), torch.ones(num_streams, 1)), dim=1))
        self.dynamic = nn.Linear(d_model, num_streams + 2, bias=False)
        self.scale = nn.Parameter(torch.full((2,), 0.01))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start without a dynamic part."""
        nn.init.zeros_(self.dynamic.weight)

    def step(
        self,
        state_BTVD: Tensor,
        rewrite: Rewrite | None,
        compress: Compressor,
        norm: RMSNorm,
        cache: BoundaryCache | None = None,
        *,
        last: bool = False,
    ) -> tuple[Tensor, Reading]:
        """Write, then read by this sublayer's own A_m; the state that comes back is mixed already, A_rᵀ H.

        `last`: the output layer reads through `compress` and mixes nothing.
        """
        if last:
            if rewrite is not None:
                state_BTVD = self.write(state_BTVD, rewrite)
            x_BTD = compress(state_BTVD)
            return state_BTVD, Reading(x_BTD, norm(x_BTD))
        mixed_BTVD, x_BTD, value_BTV = hyper_connection(
            state_BTVD,
            None if rewrite is None else rewrite.direction,
            None if rewrite is None else rewrite.value,
            self.static,
            self.dynamic.weight,
            self.scale,
            eps=self.norm_eps,
        )
        return mixed_BTVD, Reading(x_BTD, norm(x_BTD), value=value_BTV)

    def propose(self, reading: Reading, h_BTD: Tensor) -> Rewrite:
        return Rewrite(h_BTD, reading.value)

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        assert rewrite.value is not None
        return write(state_BTVD, rewrite.direction, rewrite.value)
