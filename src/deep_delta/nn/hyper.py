"""Hyper-connections: several residual streams, which each sublayer reads, mixes and writes by learned weights."""

# B batch, T time, V streams, D width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.errors import ConfigError
from deep_delta.nn.branches import in_fp32
from deep_delta.nn.parts import ours, start_with, untouched
from deep_delta.nn.residual import Boundary, Reading, ResidualStream, Rewrite
from deep_delta.ops.hyper_connection import hyper_connection, write


class Coefficients(nn.Linear):
    """The dynamic part's W, which starts at zero."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.weight)


ours(Coefficients)


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
        self.norm_eps, self.index = norm_eps, index
        self.static = nn.Parameter(torch.empty(num_streams, num_streams + 2))
        self.dynamic = Coefficients(d_model, num_streams + 2, bias=False)
        self.scale = nn.Parameter(torch.empty(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The static part and the scales; `dynamic` has a start of its own."""
        num_streams = len(self.static)
        with torch.device("cpu"):
            read = F.one_hot(torch.tensor([self.index % num_streams]), num_streams).T
            start = torch.cat((read, torch.eye(num_streams), torch.ones(num_streams, 1)), dim=1)
        start_with(self.static, start)
        nn.init.constant_(self.scale, 0.01)

    def step(self, state_BTVD: Tensor, rewrite: Rewrite | None, boundary: Boundary) -> tuple[Tensor, Reading]:
        """Write, then read by this sublayer's own A_m; the state that comes back is mixed already, A_rᵀ H."""
        if boundary.compress is not None:
            raise ConfigError(
                f"hyper-connections read by weights of their own: a {type(boundary.compress).__name__} as a block's "
                "compress would never be asked"
            )
        mixed_BTVD, x_BTD, value_BTV = hyper_connection(
            state_BTVD,
            None if rewrite is None else rewrite.direction,
            None if rewrite is None else rewrite.value,
            self.static,
            self.dynamic.weight if untouched(self.dynamic) and self.dynamic.bias is None else self._project,
            self.scale,
            eps=self.norm_eps,
        )
        return mixed_BTVD, Reading(x_BTD, boundary.norm(x_BTD), value=value_BTV)

    def _project(self, normalised: Tensor) -> Tensor:
        return in_fp32(self.dynamic, normalised)

    def propose(self, reading: Reading, h_BTD: Tensor) -> Rewrite:
        return Rewrite(h_BTD, reading.value)

    def write(self, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
        assert rewrite.value is not None
        return write(state_BTVD, rewrite.direction, rewrite.value)


class HyperOutput(ResidualStream):
    """How hyper-connections end: the output layer reads through its compressor, and nothing is mixed or proposed."""

    write = HyperStream.write
