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
    width = -(-C // BASE) * BASE
    if width != C:  # an identity below and to the right changes nothing
        padded = work("padded", N, width, width).zero_()
        padded[:, :C, :C] = lower
        lower = padded
    inverse = work("inverse", N, width, width).zero_()
    _diagonal_blocks(inverse).copy_(_invert_blocks(_diagonal_blocks(lower), work))
    size = BASE
    while size < width:
        for start in range(0, width - size, 2 * size):
            upper, below = slice(start, start + size), slice(start + size, min(start + 2 * size, width))
            shape = (N, below.stop - below.start, size)
            product = torch.bmm(inverse[:, below, below], lower[:, below, upper], out=work("product", *shape))
            corner = torch.bmm(product, inverse[:, upper, upper], out=work("corner", *shape))
            torch.neg(corner, out=inverse[:, below, upper])
        size *= 2
    return inverse[:, :C, :C]


def _diagonal_blocks(matrix: Tensor) -> Tensor:
    """The blocks on the diagonal, the batch last: a view [BASE, BASE, N, blocks]."""
    N, width, _ = matrix.shape
    tiles = matrix.view(N, width // BASE, BASE, width // BASE, BASE)
    return tiles.diagonal(dim1=1, dim2=3).permute(1, 2, 0, 3)


def _invert_blocks(blocks: Tensor, work: Workspace) -> Tensor:
    """Forward substitution with the batch innermost, so that every operation runs along contiguous memory."""
    rows = work("rows", *blocks.shape).copy_(blocks)
    inverse = work("substituted", *blocks.shape).zero_()
    inverse.diagonal().fill_(1)
    for i in range(1, BASE):
        terms = torch.mul(rows[i, :i].unsqueeze(1), inverse[:i, :i], out=work("terms", i, i, *blocks.shape[2:]))
        torch.sum(terms, 0, out=inverse[i, :i])
        inverse[i, :i].neg_()
    return inverse
