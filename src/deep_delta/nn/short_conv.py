"""Short causal convolutions over time, and what decoding carries of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.nn.parts import ours
from deep_delta.ops.causal_conv import causal_conv


def of_inference(tensor: Tensor) -> bool:
    """Whether a tensor was made in inference mode and is met outside, where no backward pass may keep it and nothing
    may write to it. A compiled graph cannot ask."""
    if torch.compiler.is_compiling():
        return False
    return tensor.is_inference() and not torch.is_inference_mode_enabled()


class RowState:
    """A tensor [B, …] that decoding carries from one call to the next, a row a sequence; None before the first.

    It carries no gradient: else the graph of every token would be kept.
    """

    def __init__(self, tensor: Tensor | None = None) -> None:
        self._tensor: Tensor | None = None
        self.tensor = tensor

    @property
    def tensor(self) -> Tensor | None:
        if self._tensor is not None and of_inference(self._tensor):
            self._tensor = self._tensor.clone()
        return self._tensor

    @tensor.setter
    def tensor(self, tensor: Tensor | None) -> None:
        self._tensor = None if tensor is None else tensor.detach()

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        made._tensor = self._tensor
        return made

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """The rows of several, one below the other: all of them have been written, or none has."""
        tensors = [state.tensor for state in states if state.tensor is not None]
        assert len(tensors) in (0, len(states))
        return cls(torch.cat(tensors) if tensors else None)

    def select(self, rows: list[int]) -> Self:
        """These rows, in this order."""
        return type(self)(None if self.tensor is None else self.tensor[rows])


class ConvTail(RowState):
    """The last tokens of a causal convolution's input."""

    def extend(self, x: Tensor, length: int) -> Tensor:
        """x [B, T, …] behind the `length` tokens before it (zeros before the first); remembers its own last ones."""
        if length == 0:
            return x
        tail = self.tensor if self.tensor is not None else x.new_zeros(x.shape[0], length, *x.shape[2:])
        extended = torch.cat((tail.to(x.dtype), x), dim=1)
        tail = extended[:, extended.shape[1] - length :]
        self.tensor = tail if x.shape[1] <= length else tail.clone()  # a view of much would keep all of it
        return extended


@ours
class ShortConv(nn.Module):
    """SiLU of a depthwise causal convolution over time, [B, T, D] → [B, T, D].

    `weight` is [taps, D], the present token's last; it starts as PyTorch's own convolutions do, uniform in ±1/√taps.
    """

    def __init__(self, dim: int, taps: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(taps, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        reach = len(self.weight) ** -0.5
        nn.init.uniform_(self.weight, -reach, reach)

    def forward(self, x_BTD: Tensor, tail: ConvTail | None = None) -> Tensor:
        T = x_BTD.shape[1]
        if tail is not None:
            x_BTD = tail.extend(x_BTD, len(self.weight) - 1)
        return F.silu(causal_conv(x_BTD, self.weight.unsqueeze(1)).squeeze(2)[:, -T:])
