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

from deep_delta.nn.parts import computing_dtype, ours, untouched
from deep_delta.ops.direction import normalize_direction
from deep_delta.ops.plain import without_autocast


def gate_bias(beta: float) -> float:
    """The logit at which 2σ(·) is β."""
    return math.log(beta / (2.0 - beta))


def in_fp32(linear: nn.Module, x: Tensor) -> Tensor:
    """linear(x) in fp32 at least, whatever the precision of x and of the weights; a part that is not a plain linear
    layer is called on x in the precision of its own parameters."""
    wide = torch.promote_types(x.dtype, torch.float32)
    own = computing_dtype(linear)
    if own is not None and own.itemsize < 4 and isinstance(linear, nn.Linear) and untouched(linear):
        bias = None if linear.bias is None else linear.bias.to(wide)
        return F.linear(x.to(wide), linear.weight.to(wide), bias)
    out: Tensor = linear(x.to(wide if own is None else own if own.itemsize < 4 else torch.promote_types(wide, own)))
    return out.to(torch.promote_types(out.dtype, torch.float32))


class GateLogit(nn.Linear):
    """w·c + b, whose bias starts where 2σ(·) is `beta_init`."""

    def __init__(self, width: int, beta_init: float) -> None:
        self.beta_init = beta_init
        super().__init__(width, 1)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.bias, gate_bias(self.beta_init))


ours(GateLogit)


@ours
class GateHead(nn.Module):
    """β = 2σ(w·c + b), or 2σ(w₂·tanh(W₁c) + b) with `hidden`; c [..., D] → [..., 1] in (0, 2).

    In fp32 even under autocast and with narrower weights: near 0 and 2 the gate needs the precision.
    """

    def __init__(self, d_model: int, beta_init: float = 0.5, hidden: int | None = None) -> None:
        super().__init__()
        self.hidden = None if hidden is None else nn.Linear(d_model, hidden, bias=False)
        self.out = GateLogit(d_model if hidden is None else hidden, beta_init)

    def forward(self, c: Tensor) -> Tensor:
        with without_autocast(c.device.type):
            if self.hidden is not None:
                c = torch.tanh(in_fp32(self.hidden, c))
            return 2.0 * torch.sigmoid(in_fp32(self.out, c))

    def row(self) -> tuple[Tensor, Tensor] | None:
        """w and b, where β is just 2σ(w·c + b); None where the module has to be called."""
        alone = self.hidden is None and untouched(self) and untouched(self.out)
        return (self.out.weight, self.out.bias) if alone and self.out.bias is not None else None


@ours
class ValueHead(nn.Module):
    """v = W x (+ b), or the bounded s·σ(W x + b); [..., D] → [..., V]."""

    def __init__(self, d_model: int, d_value: int, *, bias: bool = False, scale: float | None = None) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, d_value, bias=bias)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        v = self.proj(x)
        return v if self.scale is None else self.scale * torch.sigmoid(v)

    def rows(self) -> Tensor | None:
        """W, where v is made of W x; None where the module has to be called."""
        return self.proj.weight if untouched(self) and untouched(self.proj) else None

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
        with without_autocast(x.device.type):
            return 2.0 * torch.sigmoid(in_fp32(self.out, torch.tanh(in_fp32(self.hidden, x.mean(-1)))))


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
