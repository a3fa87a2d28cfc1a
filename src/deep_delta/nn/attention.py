"""Causal multi-head attention with rotary positions."""

# B batch, T time, D width, H heads, K head width

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.rotary import RotaryTable
from deep_delta.ops.attention import causal_attention
from deep_delta.ops.heads import split_heads


class KeyValueCache:
    """Keys and values of the tokens so far, [B, H, T, K]; grows by doubling, so that appending stays cheap.

    Rows of different lengths end together: the first `starts` [B] places of a row hold nothing and are never attended.
    `starts` is None where every row is as long as the cache.
    """

    def __init__(self) -> None:
        self.length = 0
        self.starts: Tensor | None = None
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add some tokens and return all keys and all values; gradients reach those just added."""
        start, end = self.length, self.length + keys.shape[2]
        self._keys = _room(self._keys, keys.detach(), start, end)
        self._values = _room(self._values, values.detach(), start, end)
        self.length = end
        if torch.is_grad_enabled():  # what backward keeps must not be a part of a buffer that goes on filling
            return torch.cat((self._keys[:, :, :start], keys), 2), torch.cat((self._values[:, :, :start], values), 2)
        return self._keys[:, :, :end], self._values[:, :, :end]

    def mask(self, num_tokens: int) -> Tensor | None:
        """Which keys each of the last tokens may see: bool [T, length], or [B, 1, T, length] where rows differ in
        length. None where it sees all."""
        if num_tokens == 1 and self.starts is None:
            return None
        assert self._keys is not None
        place = torch.arange(self.length, device=self._keys.device)
        seen = place <= place[self.length - num_tokens :].unsqueeze(-1)
        return seen if self.starts is None else seen & (place >= self.starts[:, None, None, None])

    @classmethod
    def stack(cls, caches: Sequence[KeyValueCache]) -> KeyValueCache:
        """The rows of several caches, one below the other; all of them have read something."""
        length = max(cache.length for cache in caches)
        starts = torch.cat([cache._row_starts() + (length - cache.length) for cache in caches])
        keys = [_right_aligned(cache._keys, cache.length, length) for cache in caches]
        values = [_right_aligned(cache._values, cache.length, length) for cache in caches]
        return cls._of(torch.cat(keys), torch.cat(values), starts)

    def select(self, rows: Sequence[int]) -> KeyValueCache:
        """A cache of these rows, in this order, without the places that none of them uses."""
        if self._keys is None or self._values is None:
            return type(self)()
        chosen = list(rows)
        starts = self._row_starts()[chosen]
        used = slice(int(starts.min()), self.length)
        return self._of(self._keys[chosen, :, used], self._values[chosen, :, used], starts - starts.min())

    @classmethod
    def _of(cls, keys: Tensor, values: Tensor, starts: Tensor) -> KeyValueCache:
        cache = cls()
        cache.length, cache._keys, cache._values = keys.shape[2], keys, values
        cache.starts = starts if starts.any() else None
        return cache

    def _row_starts(self) -> Tensor:
        assert self._keys is not None
        return self._keys.new_zeros(len(self._keys), dtype=torch.int64) if self.starts is None else self.starts


def _right_aligned(buffer: Tensor | None, used: int, length: int) -> Tensor:
    """The first `used` places of a buffer, behind zeros (which weigh nothing, unlike what is not finite)."""
    assert buffer is not None
    return F.pad(buffer[:, :, :used], (0, 0, length - used, 0))


def _room(buffer: Tensor | None, new: Tensor, start: int, end: int) -> Tensor:
    if buffer is None or end > buffer.shape[2] or buffer.is_inference() > new.is_inference():
        grown = new.new_empty(*new.shape[:2], max(end, 2 * start), new.shape[3])
        if buffer is not None:
            grown[:, :, :start] = buffer[:, :, :start]
        buffer = grown
    buffer[:, :, start:end] = new
    return buffer


class Attention(nn.Module):
    """softmax(q kᵀ/√K) v per head, causal; RoPE first, then (optionally) a learnable RMSNorm on q and k. No biases.

    `qkv` holds W_q, W_k and W_v, one above the other, so that the three are one product.
    """

    def __init__(
        self, d_model: int, num_heads: int, head_dim: int, *, qk_norm: bool = True, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.qkv = nn.Linear(d_model, 3 * num_heads * head_dim, bias=False)
        self.out = nn.Linear(num_heads * head_dim, d_model, bias=False)
        self.q_norm = RMSNorm(head_dim, norm_eps) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head_dim, norm_eps) if qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, rotary: RotaryTable, cache: KeyValueCache | None = None) -> Tensor:
        B, T, _ = x_BTD.shape
        qkv = self.qkv(x_BTD).view(B, T, 3, self.num_heads, self.head_dim)
        eps = self.q_norm.eps if isinstance(self.q_norm, RMSNorm) else 0.0
        q_BHTK, k_BHTK, v_BHTK = split_heads(qkv, rotary.cos, rotary.sin, self._gain(), eps)
        if cache is not None:
            k_BHTK, v_BHTK = cache.append(k_BHTK, v_BHTK)
        if cache is not None and cache.length > T:
            h_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, attn_mask=cache.mask(T))
        else:
            h_BHTK = causal_attention(q_BHTK, k_BHTK, v_BHTK)
        return self.out(h_BHTK.transpose(1, 2).reshape(B, T, -1))

    def _gain(self) -> Tensor | None:
        """The weights of both RMSNorms, [2, K]."""
        if isinstance(self.q_norm, RMSNorm) and isinstance(self.k_norm, RMSNorm):
            return torch.stack((self.q_norm.weight, self.k_norm.weight))
        return None
