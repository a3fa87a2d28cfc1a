"""From the embedding [B, T, D] to the state [B, T, V, D]."""

# B batch, T time, V value channels, D width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.nn.parts import ours, start_with
from deep_delta.nn.short_conv import ConvTail
from deep_delta.ops.causal_conv import causal_conv


@ours
class Repeat(nn.Module):
    """Every value channel starts as the embedding."""

    def __init__(self, d_value: int) -> None:
        super().__init__()
        self.d_value = d_value

    def forward(self, x_BTD: Tensor, tail: ConvTail | None = None) -> Tensor:
        return x_BTD.unsqueeze(2).expand(-1, -1, self.d_value, -1).contiguous()


@ours
class EmbedConv(nn.Module):
    """A depthwise causal convolution D → D·V over time; starts as the identity on every channel (the same as `Repeat`).

    `weight` is [taps, V, D]; the last tap is the present token.
    """

    def __init__(self, d_model: int, d_value: int, kernel_size: int = 4) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(kernel_size, d_value, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        taps = len(self.weight)
        start_with(self.weight, F.one_hot(torch.tensor(taps - 1, device="cpu"), taps).view(-1, 1, 1))

    def forward(self, x_BTD: Tensor, tail: ConvTail | None = None) -> Tensor:
        T = x_BTD.shape[1]
        if tail is not None:
            x_BTD = tail.extend(x_BTD, self.kernel_size - 1)
        return causal_conv(x_BTD, self.weight)[:, -T:]
