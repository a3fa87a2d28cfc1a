"""Depthwise causal convolutions over a few tokens, in the terms of one tap at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class ConvTail:
    """The last tokens of a causal convolution's input, carried from one decoding call to the next."""

    def __init__(self, tail: Tensor | None = None) -> None:
        self._tail = tail

    def extend(self, x: Tensor, length: int) -> Tensor:
        """x [B, T, …] behind the `length` tokens before it (zeros before the first); remembers its own last ones."""
        if length == 0:
            return x
        extended = self.prepend(x, length)
        self.remember(extended, length)
        return extended

    def prepend(self, x: Tensor, length: int) -> Tensor:
        """x [B, T, …] behind the `length` tokens before it: [B, length + T, …]. Remembers nothing."""
        tail = self._tail if self._tail is not None else x.new_zeros(x.shape[0], length, *x.shape[2:])
        return torch.cat((tail.to(x.dtype), x), dim=1)

    def remember(self, x: Tensor, length: int) -> None:
        """Keep the last `length` tokens of x."""
        tail = x[:, x.shape[1] - length :].detach()
        self._tail = tail if x.shape[1] <= 2 * length else tail.clone()  # a view of much would keep all of it

    @classmethod
    def stack(cls, tails: Sequence[ConvTail]) -> ConvTail:
        """The rows of several tails, one below the other: all of them have read something, or none has."""
        parts = [tail._tail for tail in tails if tail._tail is not None]
        assert len(parts) in (0, len(tails))
        return cls(torch.cat(parts) if parts else None)

    def select(self, rows: Sequence[int]) -> ConvTail:
        """A tail of these rows, in this order."""
        return ConvTail(None if self._tail is None else self._tail[list(rows)])


def sum_taps(taps: list[Tensor]) -> Tensor:
    """out[t] = Σ_s taps[s][t − (S − 1) + s]: every tap [B, T, …] and zero before its first token, the last the present.

    Adds each shifted tap to the part of the output that it reaches: causal to the bit, and no padding is stored.
    """
    out = taps[-1]
    for age, tap in enumerate(reversed(taps[:-1]), start=1):
        shifted = F.pad(tap[:, :-age], (0, 0) * (tap.ndim - 2) + (age, 0)) if age < tap.shape[1] else None
        out = out if shifted is None else out + shifted
    return out
