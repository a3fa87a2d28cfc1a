"""From the state [B, T, V, D] to a sublayer's input [B, T, D]."""

# B batch, T time, V value channels, D width

from __future__ import annotations

import torch
from torch import Tensor, nn

from deep_delta.nn.branches import Heads
from deep_delta.nn.short_conv import RowState
from deep_delta.ops.stream_step.reference import read_on, read_state


class BoundaryCache(RowState):
    """What a boundary between sublayers carries while decoding: what the tokens so far add to its next S − 1 reads,
    [B, S − 1, D]; and its `weights`, put together once: the compressor's, and what its stream projects from c.
    """

    weights: tuple[Tensor | None, Heads] | None = None


class Compressor(nn.Module):
    """The interface: a causal linear read of the state."""

    def read_weight(self) -> Tensor | None:
        """Its weight over S tokens, [S, V, D], the present one last; None where the state is read as it is."""
        raise NotImplementedError

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        raise NotImplementedError


class SingleChannel(Compressor):
    """V = 1: the state is read as it is."""

    def read_weight(self) -> None:
        return None

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        return state_BTVD.squeeze(2)


class ChannelSum(Compressor):
    """The sum over the value channels of the same token: how the streams of hyper-connections end, in no fused step."""

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        return state_BTVD.sum(2)


class ChannelConv(Compressor):
    """Per-feature weights over the value channels of the same token: x[d] = Σ_v w[v, d] X[v, d].

    Consumes V at once; starts as the mean over the channels. `weight` is [V, D].
    """

    def __init__(self, d_model: int, d_value: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((d_value, d_model), 1.0 / d_value))

    def reset_parameters(self, std: float) -> None:
        """Start at random, with the spread that the factored form has at its own random start."""
        d_value = self.weight.shape[0]
        nn.init.normal_(self.weight, std=std * d_value**-0.5)

    def read_weight(self) -> Tensor:
        return self.weight.unsqueeze(0)

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        return (state_BTVD * self.read_weight().to(state_BTVD.dtype)).sum(2)


class FactoredChannelConv(ChannelConv):
    """`ChannelConv` kept as the released code's two factors, which collapse to one weight in forward.

    `kernel` [D, S] runs along the value channels, then `read` [V] sums: w[j] = Σ_i read[i] · kernel[:, j − i + pad],
    where the index is in range. pad is ⌊(S − 1)/2⌋ ("same" zero padding), or S − 1 where `causal`.
    """

    def __init__(self, d_model: int, d_value: int, kernel_size: int, *, causal: bool = False) -> None:
        nn.Module.__init__(self)
        pad = kernel_size - 1 if causal else (kernel_size - 1) // 2
        self.kernel = nn.Parameter(torch.zeros(d_model, kernel_size))
        self.read = nn.Parameter(torch.full((d_value,), 1.0 / d_value))
        offset = torch.arange(d_value) - torch.arange(d_value).unsqueeze(1) + pad
        self._offset = offset  # [i, j]: which tap carries channel j into output i
        with torch.no_grad():
            self.kernel[:, pad] = 1.0

    def reset_parameters(self, std: float) -> None:
        nn.init.normal_(self.kernel, std=std)

    def read_weight(self) -> Tensor:
        offset = self._offset.to(self.kernel.device)
        in_range = (offset >= 0) & (offset < self.kernel.shape[1])
        taps_DIJ = self.kernel[:, offset.clamp(0, self.kernel.shape[1] - 1)] * in_range
        return torch.einsum("i,dij->jd", self.read, taps_DIJ).unsqueeze(0)


class TokenConv(Compressor):
    """A depthwise causal convolution over time on all D·V channels, then a read vector over V.

    x[t, d] = Σ_v read[v] Σ_s kernel[s, v, d] X[t − (S − 1) + s, v, d]. Both are linear, so forward contracts V first
    and shifts the small result. `kernel` is [S, V, D], `read` [V]; starts as the mean of the present token's channels.
    """

    def __init__(self, d_model: int, d_value: int, kernel_size: int = 4) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(kernel_size, d_value, d_model))
        self.read = nn.Parameter(torch.full((d_value,), 1.0 / d_value))
        with torch.no_grad():
            self.kernel[-1] = 1.0

    def reset_parameters(self, std: float) -> None:
        nn.init.normal_(self.kernel, std=std)

    def read_weight(self) -> Tensor:
        return self.kernel * self.read.unsqueeze(-1)

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        weight_SVD = self.read_weight().to(state_BTVD.dtype)
        if cache is None:
            return read_state(state_BTVD, weight_SVD)
        x_BTD, cache.tensor = read_on(state_BTVD, weight_SVD, cache.tensor)
        return x_BTD
