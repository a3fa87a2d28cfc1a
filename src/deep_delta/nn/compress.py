"""From the state [B, T, V, D] to a sublayer's input [B, T, D]."""

# B batch, T time, V value channels, D width

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.nn.branches import Heads
from deep_delta.nn.parts import Watch, ours, start_with
from deep_delta.nn.short_conv import RowState
from deep_delta.ops.plain import without_autocast
from deep_delta.ops.stream_step.reference import read_on, read_state


class BoundaryCache(RowState):
    """What a boundary between sublayers carries while decoding: what the tokens so far add to its next S − 1 reads,
    [B, S − 1, D].
    """

    fused: tuple[Watch, Heads] | None = None
    """That the parts of a fused boundary were as they were made, and what it takes of the gate and the value; both hold
    as long as the watch does."""

    def __copy__(self) -> Self:
        made = super().__copy__()
        made.fused = self.fused
        return made

    def __getstate__(self) -> dict[str, object]:
        """Without the model's own parts: a copy that shares nothing, or a file, asks them anew."""
        return {name: one for name, one in self.__dict__.items() if name != "fused"}


class Compressor(nn.Module):
    """The interface: a causal linear read of the state.

    It starts as the mean over the channels of the present token; or at random, where `init_std` is set before
    `reset_parameters`.
    """

    init_std: float | None = None

    def reset_parameters(self) -> None:
        """The start; nothing where there are no weights."""

    def read_weight(self) -> Tensor | None:
        """Its weight over S tokens, [S, V, D], the present one last; None where the state is read as it is."""
        raise NotImplementedError

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        raise NotImplementedError


@ours
class SingleChannel(Compressor):
    """V = 1: the state is read as it is."""

    def read_weight(self) -> None:
        return None

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        return state_BTVD.squeeze(2)


@ours
class ChannelSum(Compressor):
    """The sum over the value channels of the same token: how the streams of hyper-connections end, in no fused step."""

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        return state_BTVD.sum(2)


@ours
class ChannelConv(Compressor):
    """Per-feature weights over the value channels of the same token: x[d] = Σ_v w[v, d] X[v, d].

    Consumes V at once; starts as the mean over the channels. `weight` is [V, D].
    """

    def __init__(self, d_model: int, d_value: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_value, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A random start has the spread that the factored form has at its own."""
        d_value = self.weight.shape[0]
        if self.init_std is None:
            nn.init.constant_(self.weight, 1.0 / d_value)
        else:
            nn.init.normal_(self.weight, std=self.init_std * d_value**-0.5)

    def read_weight(self) -> Tensor:
        return self.weight.unsqueeze(0)

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        return (state_BTVD * self.read_weight().to(state_BTVD.dtype)).sum(2)


@ours
class FactoredChannelConv(ChannelConv):
    """`ChannelConv` kept as the released code's two factors, which collapse to one weight in forward.

    `kernel` [D, S] runs along the value channels, then `read` [V] sums: w[j] = Σ_i read[i] · kernel[:, j − i + pad],
    where the index is in range. pad is ⌊(S − 1)/2⌋ ("same" zero padding), or S − 1 where `causal`.
    """

    def __init__(self, d_model: int, d_value: int, kernel_size: int, *, causal: bool = False) -> None:
        nn.Module.__init__(self)
        self.pad = kernel_size - 1 if causal else (kernel_size - 1) // 2
        self.kernel = nn.Parameter(torch.empty(d_model, kernel_size))
        self.read = nn.Parameter(torch.empty(d_value))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.read, 1.0 / len(self.read))
        if self.init_std is None:
            start_with(self.kernel, F.one_hot(torch.tensor(self.pad, device="cpu"), self.kernel.shape[1]))
        else:
            nn.init.normal_(self.kernel, std=self.init_std)

    def read_weight(self) -> Tensor:
        size = self.kernel.shape[1]
        windows_VS = F.pad(self.read, (size - 1 - self.pad, self.pad)).unfold(0, size, 1)
        with without_autocast(self.kernel.device.type):
            return (windows_VS @ self.kernel.flip(1).mT).unsqueeze(0)


@ours
class TokenConv(Compressor):
    """A depthwise causal convolution over time on all D·V channels, then a read vector over V.

    x[t, d] = Σ_v read[v] Σ_s kernel[s, v, d] X[t − (S − 1) + s, v, d]. Both are linear, so forward contracts V first
    and shifts the small result. `kernel` is [S, V, D], `read` [V]; starts as the mean of the present token's channels.
    """

    def __init__(self, d_model: int, d_value: int, kernel_size: int = 4) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(kernel_size, d_value, d_model))
        self.read = nn.Parameter(torch.empty(d_value))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.read, 1.0 / len(self.read))
        if self.init_std is None:
            size = len(self.kernel)
            start_with(self.kernel, F.one_hot(torch.tensor(size - 1, device="cpu"), size).view(-1, 1, 1))
        else:
            nn.init.normal_(self.kernel, std=self.init_std)

    def read_weight(self) -> Tensor:
        return self.kernel * self.read.unsqueeze(-1)

    def forward(self, state_BTVD: Tensor, cache: BoundaryCache | None = None) -> Tensor:
        weight_SVD = self.read_weight().to(state_BTVD.dtype)
        if cache is None:
            return read_state(state_BTVD, weight_SVD)
        x_BTD, cache.tensor = read_on(state_BTVD, weight_SVD, cache.tensor)
        return x_BTD
