"""Keeping what is not finite from the tokens before it.

The products of a chunk are over all of its tokens, and masks multiply: zero times infinity would reach back. So a token
that is not finite is taken out, with all that follow it and depend on it, and its results are filled in afterwards.
"""

# b rows of the batch, H heads, t tokens, K key and E value dimensions of a head

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from deep_delta.ops.direction import compute_dtype


class Isolated(NamedTuple):
    """Inputs in which everything is finite, up to overflow, and where the results are not numbers."""

    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    """q, k, v and beta."""
    state: Tensor
    lost: Tensor
    """Of the outputs, [b, H, t, E]."""
    lost_state: Tensor
    """Of the last state, [b, H, 1, E]."""


def isolate(inputs: Sequence[Tensor], state: Tensor) -> Isolated:
    """Replace by zeros, which change nothing, what is not finite and what comes after it in its head.

    A key or a gate that is not finite spoils its head from there on, an entry of a value its column of the state, and a
    query its own output; an entry of the first state its column from the beginning.
    """
    q, k, v, beta = inputs
    column_bHtE = ~v.isfinite()
    token_bHt1 = ~(k.isfinite().all(-1) & beta.isfinite()).unsqueeze(-1)
    first_bH1E = ~state.isfinite().all(-2, keepdim=True)
    head_bHt1 = _from_there_on(token_bHt1)
    lost_bHtE = _from_there_on(column_bHtE) | head_bHt1 | first_bH1E
    query_bHt1 = head_bHt1 | ~q.isfinite().all(-1, keepdim=True)
    finite = (
        q.masked_fill(query_bHt1, 0),
        k.masked_fill(head_bHt1, 0),
        v.masked_fill(lost_bHtE, 0),
        beta.masked_fill(head_bHt1.squeeze(-1), 0),
    )
    return Isolated(finite, state.masked_fill(first_bH1E, 0), lost_bHtE | query_bHt1, lost_bHtE[:, :, -1:])


def all_finite(x: Tensor) -> bool:
    """In one pass. A sum that overflows counts as not finite, which costs time and changes nothing."""
    return math.isfinite(x.sum(dtype=compute_dtype(x)).item())


def _from_there_on(bad: Tensor) -> Tensor:
    """Whether there is one at this token or before it."""
    return bad.int().cumsum(2) > 0


def isolate_gradient(grad: Tensor, lost: Tensor) -> Tensor:
    """The gradient of results of which some are lost: what depends on those has none (NaN); zero stays zero."""
    return grad.masked_fill(lost & (grad != 0), torch.nan).masked_fill(lost & (grad == 0), 0)
