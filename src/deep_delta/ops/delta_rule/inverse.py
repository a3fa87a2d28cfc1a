"""The inverse of a unit lower triangular matrix, for many small ones at once (see README.md for why it is built so)."""

from __future__ import annotations

import torch
from torch import Tensor

from deep_delta.ops.delta_rule.segment import Workspace

BASE = 8
"""The width of the blocks that are inverted row by row."""


def unit_lower_inverse(lower: Tensor, work: Workspace) -> Tensor:
    """(I + L)⁻¹ for strictly lower triangular L [N, C, C]; [N, C, C], with exact zeros above the diagonal.

    Substitution inside blocks of 8 rows, all blocks of all matrices at once; then neighbouring blocks are merged,
    [[A, 0], [B, D]]⁻¹ = [[A⁻¹, 0], [−D⁻¹ B A⁻¹, D⁻¹]], until one is left. Writes in place: not for autograd.
    """
    N, C, _ = lower.shape
    width = BASE
    while width < C:
        width *= 2
    if width != C:  # an identity below and to the right changes nothing
        padded = work("padded", N, width, width).zero_()
        padded[:, :C, :C] = lower
        lower = padded
    inverse = _invert_blocks(_blocks(lower, BASE, 0, BASE), work)
    size = BASE
    while size < width:
        below = _blocks(lower, 2 * size, size, size).permute(2, 3, 0, 1)
        shape = (N * (width // (2 * size)), size, size)
        below = work(f"below {size}", *shape).view(below.shape).copy_(below).view(shape)
        pairs = inverse.view(-1, 2, size, size)
        merged = work(f"inverse {2 * size}", shape[0], 2 * size, 2 * size)
        merged[:, :size, :size] = pairs[:, 0]
        merged[:, :size, size:] = 0
        merged[:, size:, size:] = pairs[:, 1]
        product = torch.bmm(pairs[:, 1], below, out=work(f"product {size}", *shape))
        torch.neg(torch.bmm(product, pairs[:, 0], out=below), out=merged[:, size:, :size])
        inverse, size = merged, 2 * size
    return inverse[:, :C, :C]


def _blocks(matrix: Tensor, period: int, row: int, extent: int) -> Tensor:
    """The `extent`-wide blocks at (row, 0) of every `period`-wide diagonal block: a view [extent, extent, N, blocks]."""
    N, width, _ = matrix.shape
    tiles = matrix.view(N, width // period, period, width // period, period)
    return tiles[:, :, row : row + extent, :, :extent].diagonal(dim1=1, dim2=3).permute(1, 2, 0, 3)


def _invert_blocks(blocks: Tensor, work: Workspace) -> Tensor:
    """Forward substitution with the batch innermost, so that every operation runs along contiguous memory."""
    num_blocks = blocks.shape[2] * blocks.shape[3]
    rows = work("rows", *blocks.shape).copy_(blocks).view(BASE, BASE, num_blocks)
    inverse = work("substituted", BASE, BASE, num_blocks).zero_()
    inverse.diagonal().fill_(1)
    for i in range(1, BASE):
        terms = torch.mul(rows[i, :i].unsqueeze(1), inverse[:i, :i], out=work("terms", i, i, num_blocks))
        torch.sum(terms, 0, out=inverse[i, :i])
        inverse[i, :i].neg_()
    return work(f"inverse {BASE}", num_blocks, BASE, BASE).copy_(inverse.permute(2, 0, 1))
