"""The output layer and its loss in one, some tokens at a time, so that the logits are never all in memory."""

# N tokens, D width, C vocabulary

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops.plain import first_derivative_only, wants_plain

LOGITS_AT_ONCE = 1 << 21
"""Logits of so many (token, word) pairs are held at a time: 8 MB in fp32. Fewer cost speed: the products get thin."""
FEWEST_TOKENS = 256
"""Held at a time at least, however large the vocabulary."""


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Mean of −log softmax(hidden weightᵀ)[target] over the targets that count, an fp32 scalar (fp64 stays fp64).

    hidden [N, D], weight [C, D], targets [N] (int64). The gradients are made in the forward pass, from the logits while
    they are at hand, and kept instead of them; the backward pass only scales them.
    """
    if wants_plain():
        return plain(hidden, weight, targets, ignore_index)
    needs_gradient = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    return _LinearCrossEntropy.apply(hidden, weight, targets, ignore_index, needs_gradient)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """The definition."""
    logits = F.linear(hidden, weight)
    return F.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, ignore_index=ignore_index
    )


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, needs_gradient: bool
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        wide = torch.promote_types(dtype, torch.float32)
        ctx.dtypes = hidden.dtype, weight.dtype
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        counts = targets != ignore_index
        num_targets = counts.sum().to(wide)
        loss = torch.zeros((), dtype=wide, device=hidden.device)
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
                logits.mul_(count / (total * num_targets)).scatter_add_(1, target, -(count / num_targets))
                pull = logits.to(dtype)
                torch.mm(pull, weight, out=grad_hidden[begin : begin + rows])
                if dtype == wide:
                    grad_weight.addmm_(pull.mT, some)
                else:
                    grad_weight += torch.mm(pull.mT, some)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return loss / num_targets

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        hidden_dtype, weight_dtype = ctx.dtypes
        return (grad_hidden * grad).to(hidden_dtype), (grad_weight * grad).to(weight_dtype), None, None, None
