"""What generates a rewrite: the direction k, the gate β and the value v.

`GateHead` and `ValueHead` read a vector of the transformer; `KBranch`, `BetaBranch` and `VBranch` read a whole state
[..., D, V] through its mean over V and serve the stand-alone block.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.ops.direction import normalize_direction


def gate_bias(beta: float) -> float:
    """The logit at which 2σ(·) is β."""
    return math.log(beta / (2.0 - beta))


def _gate(logits: Tensor) -> Tensor:
    """2σ(logits) in fp32 at least: in bf16 it is 2 itself from a logit of 6 on."""
    return 2.0 * torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))


class GateHead(nn.Module):
    """β = 2σ(w·c + b), or 2σ(w₂·tanh(W₁c) + b) with `hidden`; c [..., D] → [..., 1] in (0, 2).

    In fp32 even under autocast: near 0 and 2 the gate's logits need the precision. Half-precision
    weights make an fp32 gate too.
    """

    def __init__(self, d_model: int, beta_init: float = 0.5, hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = None if hidden is None else nn.Linear(d_model, hidden, bias=False)
        self.out = nn.Linear(d_model if hidden is None else hidden, 1)
        self.beta_init = beta_init
        nn.init.constant_(self.out.bias, gate_bias(beta_init))

    def forward(self, c: Tensor) -> Tensor:
        with torch.autocast(c.device.type, enabled=False):
            c = c.to(torch.promote_types(c.dtype, self.out.weight.dtype))
            if self.hidden is not None:
                c = torch.tanh(self.hidden(c))
            return _gate(self.out(c))


class ValueHead(nn.Module):
    """v = W x (+ b), or the bounded s·σ(W x + b); [..., D] → [..., V]."""

    def __init__(self, d_model: int, d_value: int, *, bias: bool = False, scale: float | None = None) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, d_value, bias=bias)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        v = self.proj(x)
        return v if self.scale is None else self.scale * torch.sigmoid(v)

    def activate(self, scores: Tensor) -> Tensor:
        """v from W x, [..., V], where that has been computed elsewhere."""
        v = scores if self.proj.bias is None else scores + self.proj.bias
        return v if self.scale is None else self.scale * torch.sigmoid(v)


class Heads(NamedTuple):
    """Rows a boundary may project from c while it makes it: the value's [V, D], the gate's [1, D], its bias [1]."""

    value: Tensor | None = None
    gate: Tensor | None = None
    gate_bias: Tensor | None = None


class ConstantValue(nn.Module):
    """The same value for every token and channel: the ablation in which only k and β are learned."""

    def __init__(self, d_value: int, value: float) -> None:
        super().__init__()
        self.d_value, self.value = d_value, value

    def forward(self, x: Tensor) -> Tensor:
        return x.new_full((*x.shape[:-1], self.d_value), self.value)


class KBranch(nn.Module):
    """Unit direction from a state: [..., D, V] → [..., D]; mean over V → Linear → GELU → Linear → L2 normalise."""

    def __init__(self, d_model: int, d_hidden: int | None = None, eps: float = 1e-8) -> None:
        super().__init__()
        self.hidden = nn.Linear(d_model, d_hidden or d_model)
        self.out = nn.Linear(d_hidden or d_model, d_model)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return normalize_direction(self.out(F.gelu(self.hidden(x.mean(-1)))), self.eps).to(x.dtype)


class BetaBranch(nn.Module):
    """Gate from a state: [..., D, V] → [..., 1] in (0, 2); mean over V → Linear → tanh → Linear → 2σ.

    In fp32 even under autocast, as in `GateHead`.
    """

    def __init__(self, d_model: int, d_hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(d_model, d_hidden or d_model)
        self.out = nn.Linear(d_hidden or d_model, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            c = x.mean(-1)
            c = c.to(torch.promote_types(c.dtype, self.hidden.weight.dtype))
            return _gate(self.out(torch.tanh(self.hidden(c))))


class VBranch(nn.Module):
    """Target readout from a state: [..., D, V] → [..., V]; mean over V → Linear → GELU → Linear."""

    def __init__(self, d_model: int, d_value: int, d_hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(d_model, d_hidden or d_model)
        self.out = nn.Linear(d_hidden or d_model, d_value)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.hidden(x.mean(-1))))


class DeltaBranches(nn.Module):
    """All three generators: [..., D, V] → (k [..., D], beta [..., 1], v [..., V])."""

    def __init__(self, d_model: int, d_value: int, d_hidden: int | None = None, eps: float = 1e-8) -> None:
        super().__init__()
        self.k = KBranch(d_model, d_hidden, eps)
        self.beta = BetaBranch(d_model, d_hidden)
        self.v = VBranch(d_model, d_value, d_hidden)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.k(x), self.beta(x), self.v(x)
