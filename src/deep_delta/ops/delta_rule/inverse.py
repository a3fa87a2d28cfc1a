"""The inverse of a unit lower triangular matrix, for many small ones at once (see README.md for why it is built so)."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 8
"""The width of the blocks that are inverted row by row."""


def unit_lower_inverse(lower: Tensor) -> Tensor:
    """(I + L)⁻¹ for strictly lower triangular L [N, C, C]; [N, C, C], with exact zeros above the diagonal.

    Substitution inside blocks of 8 rows, all blocks of all matrices at once; then neighbouring blocks are merged,
    [[A, 0], [B, D]]⁻¹ = [[A⁻¹, 0], [−D⁻¹ B A⁻¹, D⁻¹]], until one is left. Works in place on memory of its own: not for
    autograd.
    """
    N, C, _ = lower.shape
    width = BASE
    while width < C:
        width *= 2
    if width != C:  # an identity below and to the right changes nothing
        padded = lower.new_zeros(N, width, width)
        padded[:, :C, :C] = lower
        lower = padded
    inverse = _invert_blocks(_diagonal_blocks(lower, BASE, row=0, column=0))
    size = BASE
    while size < width:
        below = _diagonal_blocks(lower, 2 * size, row=size, column=0, extent=size)
        pairs = inverse.view(-1, 2, size, size)
        merged = inverse.new_zeros(pairs.shape[0], 2 * size, 2 * size)
        merged[:, :size, :size] = pairs[:, 0]
        merged[:, size:, size:] = pairs[:, 1]
        corner = torch.bmm(torch.bmm(pairs[:, 1], below), pairs[:, 0])
        torch.neg(corner, out=merged[:, size:, :size])
        inverse, size = merged, 2 * size
    return inverse[:, :C, :C]


def _diagonal_blocks(matrix: Tensor, period: int, *, row: int, column: int, extent: int = BASE) -> Tensor:
    """The `extent`-wide blocks at (row, column) of every `period`-wide diagonal block: [N · blocks, extent, extent]."""
    N, width, _ = matrix.shape
    num_blocks = width // period
    tiles = matrix.view(N, num_blocks, period, num_blocks, period)
    tiles = tiles[:, :, row : row + extent, :, column : column + extent].diagonal(dim1=1, dim2=3)
    return tiles.permute(0, 3, 1, 2).reshape(N * num_blocks, extent, extent)


def _invert_blocks(lower: Tensor) -> Tensor:
    """Forward substitution with the batch innermost, so that every operation runs along contiguous memory."""
    rows = lower.permute(1, 2, 0).contiguous()
    size = rows.shape[0]
    inverse = torch.zeros_like(rows)
    inverse.diagonal().fill_(1)
    for i in range(1, size):
        step = (rows[i, :i].unsqueeze(1) * inverse[:i, :i]).sum(0)
        torch.neg(step, out=inverse[i, :i])
    return inverse.permute(2, 0, 1).contiguous()
