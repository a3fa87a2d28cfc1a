"""The output layer and its loss in one, some tokens at a time, so that the logits are never all in memory."""

# N tokens, D width, C vocabulary

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops.operands import check_operands
from deep_delta.ops.plain import autocast_dtype, first_derivative_only, wants_plain

Reduction = Literal["mean", "sum"]
INTEGERS = (torch.int64, torch.int32)
IGNORED = -100
"""The target of a token that asks for nothing."""
LOGITS_AT_ONCE = 1 << 21
"""Logits of so many (token, word) pairs are held at a time: 8 MB in fp32. Fewer cost speed: the products get thin."""
FEWEST_TOKENS = 256
"""Held at a time at least, however large the vocabulary."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = IGNORED, reduction: Reduction = "mean"
) -> Tensor:
    """−log softmax(hidden weightᵀ)[target] over the targets that count, an fp32 scalar (fp64 stays fp64).

    hidden [N, D], weight [C, D], targets [N] of int64 or int32. `reduction` is the "mean" of the targets that count, or
    their "sum"; where none counts both are 0, with gradients of 0. The gradients are made in the forward pass, from the
    logits while they are at hand, and kept instead of them; the backward pass only scales them.
    """
    check_operands(hidden=(hidden, "ND"), weight=(weight, "CD"))
    if targets.shape != hidden.shape[:1] or targets.dtype not in INTEGERS or targets.device != hidden.device:
        raise ValueError(
            f"targets must be int64 or int32 [N] on {hidden.device} beside hidden {tuple(hidden.shape)}, "
            f"got {targets.dtype} {tuple(targets.shape)} on {targets.device}"
        )
    if not len(weight):
        raise ValueError(f"weight must have a row for each word, got {tuple(weight.shape)}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    targets = targets.long()
    if wants_plain(hidden, weight, targets):
        return plain(hidden, weight, targets, ignore_index, reduction)
    needs_gradient = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    return _LinearCrossEntropy.apply(hidden, weight, targets, ignore_index, reduction, needs_gradient)


def plain(
    hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = IGNORED, reduction: Reduction = "mean"
) -> Tensor:
    """The definition."""
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    return cross_entropy(F.linear(hidden.to(dtype), weight.to(dtype)), targets, ignore_index, reduction)


def cross_entropy(
    logits: Tensor, targets: Tensor, ignore_index: int = IGNORED, reduction: Reduction = "mean"
) -> Tensor:
    """The same from logits [N, C], wherever they come from."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    total = F.cross_entropy(wide, targets.long(), ignore_index=ignore_index, reduction="sum")
    return total if reduction == "sum" else total / (targets != ignore_index).sum().clamp_min(1)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        ignore_index: int,
        reduction: Reduction,
        needs_gradient: bool,
    ) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, weight.dtype)
        if dtype != torch.float64:  # which autocast leaves alone
            dtype = autocast_dtype(hidden.device.type) or dtype
        wide = torch.promote_types(dtype, torch.float32)
        ctx.dtypes = hidden.dtype, weight.dtype
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        counts = targets != ignore_index
        divisor = counts.sum().clamp_min(1).to(wide) if reduction == "mean" else torch.ones_like(loss)
        grad_hidden = torch.empty_like(hidden) if needs_gradient else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_gradient else None
        rows = max(FEWEST_TOKENS, LOGITS_AT_ONCE // len(weight))
        buffer = hidden.new_empty(min(rows, len(hidden)), len(weight), dtype=wide)
        for begin in range(0, len(hidden), rows):
            some, count = hidden[begin : begin + rows], counts[begin : begin + rows].unsqueeze(1)
            target = torch.where(count.squeeze(1), targets[begin : begin + rows], 0).unsqueeze(1)
            logits = buffer[: len(some)]
            if dtype == wide:
                torch.mm(some, weight.mT, out=logits)
            else:
                logits.copy_(torch.mm(some, weight.mT))
            picked = logits.gather(1, target)
            largest = logits.amax(1, keepdim=True)
            logits.sub_(largest).exp_()
            total = logits.sum(1, keepdim=True)
            loss += torch.where(count, total.log() + largest - picked, 0).sum()
            if grad_hidden is not None and grad_weight is not None:
                logits.mul_(count / (total * divisor)).scatter_add_(1, target, -(count / divisor))
                pull = logits.to(dtype)
                torch.mm(pull, weight, out=grad_hidden[begin : begin + rows])
                if dtype == wide:
                    grad_weight.addmm_(pull.mT, some)
                else:
                    grad_weight += torch.mm(pull.mT, some)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return loss / divisor

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        return (grad_hidden * grad).to(hidden_dtype), (grad_weight * grad).to(weight_dtype), *(None,) * 4
