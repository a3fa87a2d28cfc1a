"""DeltaNet: a token mixer that rewrites a matrix memory instead of attending to what came before."""

# B batch, T time, D width, H heads, K head width

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.errors import ConfigError
from deep_delta.nn.branches import in_fp32
from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.parts import ours
from deep_delta.nn.short_conv import ConvTail, RowState, ShortConv
from deep_delta.ops import chunk_delta_rule, delta_rule_step
from deep_delta.ops.plain import without_autocast

FADE = 1e-3
"""Queries and keys shorter than this have no heading worth learning from: their gradient fades."""


Answer = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From q, k and v [B, H, T, K], not normalised, and β [B, H, T] to o [B, H, T, K]; for whole texts, without a cache."""


class MemoryCache(RowState):
    """What a DeltaNet layer carries while decoding: its memory S [B, H, K, K], and the `tail` of its convolutions.

    Of one size wherever in the text it is.
    """

    def __init__(self, tensor: Tensor | None = None, tail: ConvTail | None = None) -> None:
        super().__init__(tensor)
        self.tail = ConvTail() if tail is None else tail

    def __copy__(self) -> Self:
        made = super().__copy__()
        made.tail = self.tail.__copy__()
        return made

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        return cls(super().stack(states).tensor, ConvTail.stack([state.tail for state in states]))

    def select(self, rows: list[int]) -> Self:
        return type(self)(super().select(rows).tensor, self.tail.select(rows))


@ours
class DeltaNet(nn.Module):
    """The delta rule over time as a layer  (DeltaNet, arXiv 2406.06484);  x [B, T, d_model] → [B, T, d_model].

        q, k, v = SiLU(conv(W_q x)), SiLU(conv(W_k x)), SiLU(conv(W_v x))      β = σ(W_β x), a number a head
        S_t = S_{t−1} + β_t k_t (v_tᵀ − k_tᵀ S_{t−1}),   o_t = S_tᵀ q_t / √K   k and q of length 1
        y = W_o norm(o),  or  W_o (norm(o) ⊙ SiLU(W_g x)) with `output_gate`

    `conv` is depthwise and causal, of `conv_size` taps; `norm` is an RMSNorm over a head, its weight shared by all
    heads. `qkv` holds W_q, W_k and W_v, one above the other.

        >>> import torch
        >>> from deep_delta import DeltaNet
        >>> DeltaNet(d_model=128, chunk_size=64, num_heads=8)(torch.randn(2, 64, 128)).shape
        torch.Size([2, 64, 128])

    Args:
        d_model: width of input and output.
        chunk_size: the most tokens that are worked on at once; changes the speed, and rounding.
        num_heads: H; d_model must be divisible by it unless `head_dim` is given.
        head_dim: K, the width of a head's queries, keys and values.
        conv_size: taps of the short convolutions; 1 multiplies each feature by a number.
        neg_eigval: β = 2σ(·) in (0, 2) instead of (0, 1): the transition I − βkkᵀ can then reflect (its eigenvalue
            1 − β goes down to −1), which tracking a state such as parity needs  (arXiv 2411.12537).
        output_gate: gate the output.
        norm_eps: ε of the RMSNorm.
        eps: the length below which a query or key counts as none: each becomes x · rsqrt(Σx² + eps²). Layers of
            flash-linear-attention and transformers add 1e-6 under the root; eps = 1e-3 computes what they compute.

    The gradient of a query or key fades where √(Σx² + eps²) is below 1e-3, so that a token whose features are all zero,
    such as padding, has no slope of 1/eps in each layer  (`fade` of `chunk_delta_rule`).

    `ConfigError` for a size that does not fit.
    """

    def __init__(
        self,
        d_model: int,
        chunk_size: int = 64,
        num_heads: int = 8,
        *,
        head_dim: int | None = None,
        conv_size: int = 4,
        neg_eigval: bool = False,
        output_gate: bool = False,
        norm_eps: float = 1e-5,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        sizes = {"d_model": d_model, "chunk_size": chunk_size, "num_heads": num_heads, "conv_size": conv_size}
        for name, size in (sizes if head_dim is None else sizes | {"head_dim": head_dim}).items():
            if size < 1:
                raise ConfigError(f"{name} must be at least 1, got {size}")
        if not 0 <= eps < math.inf:
            raise ConfigError(f"eps must be finite and at least 0, got {eps}")
        if head_dim is None and d_model % num_heads:
            raise ConfigError(f"d_model must be divisible by num_heads, got {d_model} and {num_heads}")
        self.d_model, self.chunk_size, self.num_heads = d_model, chunk_size, num_heads
        self.head_dim = d_model // num_heads if head_dim is None else head_dim
        self.neg_eigval, self.eps = neg_eigval, eps
        self.answer: Answer | None = None
        """Answers in the place of the operator, for whoever looks into the memory."""
        inner = num_heads * self.head_dim
        self.qkv = nn.Linear(d_model, 3 * inner, bias=False)
        self.conv = ShortConv(3 * inner, conv_size)
        self.beta = nn.Linear(d_model, num_heads, bias=False)
        self.gate = nn.Linear(d_model, inner, bias=False) if output_gate else None
        self.norm = RMSNorm(self.head_dim, norm_eps)
        self.out = nn.Linear(inner, d_model, bias=False)

    def forward(self, x_BTD: Tensor, cache: MemoryCache | None = None) -> Tensor:
        """With a `cache`, x continues what it has read, and it is updated.

        `ValueError` when x is not [B, T, d_model] with at least one token, or the cache holds another batch.
        """
        if x_BTD.ndim != 3 or x_BTD.shape[2] != self.d_model or 0 in x_BTD.shape:
            raise ValueError(f"x must be [B, T, {self.d_model}] with B and T ≥ 1, got {tuple(x_BTD.shape)}")
        B, T, _ = x_BTD.shape
        if cache is not None and cache.tensor is not None and len(cache.tensor) != B:
            raise ValueError(f"the cache holds a batch of {len(cache.tensor)}, got x for {B}")
        qkv = self.conv(self.qkv(x_BTD), None if cache is None else cache.tail)
        q_BHTK, k_BHTK, v_BHTK = qkv.view(B, T, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        o_BHTK = self._rewrite(q_BHTK, k_BHTK, v_BHTK, self._beta(x_BTD), cache)
        o_BTHK = self.norm(o_BHTK.transpose(1, 2))
        if self.gate is not None:
            o_BTHK = o_BTHK * F.silu(self.gate(x_BTD)).view_as(o_BTHK)
        return self.out(o_BTHK.reshape(B, T, -1))

    def _beta(self, x_BTD: Tensor) -> Tensor:
        """The gates [B, H, T]; in fp32 even under autocast, because near 0 and 2 their logits need the precision."""
        with without_autocast(x_BTD.device.type):
            beta_BTH = in_fp32(self.beta, x_BTD).sigmoid()
        return (2.0 * beta_BTH if self.neg_eigval else beta_BTH).transpose(1, 2)

    def _rewrite(self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, cache: MemoryCache | None) -> Tensor:
        if self.answer is not None:
            if cache is not None:
                raise ConfigError("a memory that is looked into (`answer`) reads whole texts; leave the cache out")
            return self.answer(q, k, v, beta)
        if cache is None:
            return chunk_delta_rule(q, k, v, beta, self.chunk_size, eps=self.eps, fade=FADE)
        if cache.tensor is not None and q.shape[2] == 1:
            q, k, v, beta = (x.squeeze(2) for x in (q, k, v, beta))
            o, cache.tensor = delta_rule_step(q, k, v, beta, cache.tensor, eps=self.eps, fade=FADE)
            return o.unsqueeze(2)
        o, cache.tensor = chunk_delta_rule(
            q,
            k,
            v,
            beta,
            self.chunk_size,
            initial_state=cache.tensor,
            output_final_state=True,
            eps=self.eps,
            fade=FADE,
        )
        return o
