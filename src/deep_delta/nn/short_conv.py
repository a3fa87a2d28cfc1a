"""Depthwise causal convolutions over a few tokens, in the terms of one tap at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class ConvTail:
    """The last tokens of a causal convolution's input, carried from one decoding call to the next."""

    def __init__(self) -> None:
        self._tail: Tensor | None = None

    def extend(self, x: Tensor, length: int) -> Tensor:
        """x [B, T, …] behind the `length` tokens before it (zeros before the first); remembers its own last ones."""
        if length == 0:
            return x
        tail = self._tail if self._tail is not None else x.new_zeros(x.shape[0], length, *x.shape[2:])
        extended = torch.cat((tail.to(x.dtype), x), dim=1)
        self._tail = extended[:, extended.shape[1] - length :].detach().clone()
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
