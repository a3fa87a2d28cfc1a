"""Depthwise causal convolutions over a few tokens, in the terms of one tap at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor


class RowState:
    """A tensor [B, …] that decoding carries from one call to the next, a row a sequence; None before the first."""

    def __init__(self, tensor: Tensor | None = None) -> None:
        self.tensor = tensor

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """The rows of several, one below the other: all of them have been written, or none has."""
        tensors = [state.tensor for state in states if state.tensor is not None]
        assert len(tensors) in (0, len(states))
        return cls(torch.cat(tensors) if tensors else None)

    def select(self, rows: Sequence[int]) -> Self:
        """These rows, in this order."""
        return type(self)(None if self.tensor is None else self.tensor[list(rows)])


class ConvTail(RowState):
    """The last tokens of a causal convolution's input."""

    def extend(self, x: Tensor, length: int) -> Tensor:
        """x [B, T, …] behind the `length` tokens before it (zeros before the first); remembers its own last ones."""
        if length == 0:
            return x
        tail = self.tensor if self.tensor is not None else x.new_zeros(x.shape[0], length, *x.shape[2:])
        extended = torch.cat((tail.to(x.dtype), x), dim=1)
        tail = extended[:, extended.shape[1] - length :].detach()
        self.tensor = tail if x.shape[1] <= length else tail.clone()  # a view of much would keep all of it
        return extended


def sum_taps(taps: list[Tensor]) -> Tensor:
    """out[t] = Σ_s taps[s][t − (S − 1) + s]: every tap [B, T, …] and zero before its first token, the last the present.

    Adds each shifted tap to the part of the output that it reaches: causal to the bit, and no padding is stored.
    """
    out = taps[-1]
    for age, tap in enumerate(reversed(taps[:-1]), start=1):
        shifted = F.pad(tap[:, :-age], (0, 0) * (tap.ndim - 2) + (age, 0)) if age < tap.shape[1] else None
        out = out if shifted is None else out + shifted
    return out
