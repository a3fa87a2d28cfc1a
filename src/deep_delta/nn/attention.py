"""Causal multi-head attention with rotary positions."""

# B batch, T time, D width, H heads, K head width

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.parts import ours, untouched
from deep_delta.nn.rotary import RotaryTable
from deep_delta.nn.short_conv import of_inference
from deep_delta.ops.attention import causal_attention
from deep_delta.ops.heads import split_heads


class _Room:
    """Memory for keys and values, [B, H, places, K], that several caches may have a beginning of in common."""

    def __init__(self, keys: Tensor, values: Tensor, filled: int) -> None:
        self.keys, self.values, self.filled = keys, values, filled


class KeyValueCache:
    """Keys and values of the tokens so far, [B, H, T, K]; grows by doubling, so that appending stays cheap.

    Rows of different lengths end together: the first `starts` [B] places of a row hold nothing and are never attended.
    `starts` is None where every row is as long as the cache. A copy (`copy.copy`) goes on by itself: it shares what has
    been read, and whoever appends behind a place that another has filled takes new memory.
    """

    def __init__(self) -> None:
        self.length = 0
        self.starts: Tensor | None = None
        self._room: _Room | None = None

    def __copy__(self) -> KeyValueCache:
        made = KeyValueCache()
        made.length, made.starts, made._room = self.length, self.starts, self._room
        return made

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add some tokens and return all keys and all values; gradients reach those just added."""
        room, start, end = self._room, self.length, self.length + keys.shape[2]
        if room is None or room.filled != start or end > room.keys.shape[2] or of_inference(room.keys):
            old = (None, None) if room is None else (room.keys, room.values)
            room = self._room = _Room(self._grown(keys, old[0], end), self._grown(values, old[1], end), start)
        room.keys[:, :, start:end] = keys.detach()
        room.values[:, :, start:end] = values.detach()
        room.filled = self.length = end
        if torch.is_grad_enabled():  # what backward keeps must not be a part of a buffer that goes on filling
            return torch.cat((room.keys[:, :, :start], keys), 2), torch.cat((room.values[:, :, :start], values), 2)
        return room.keys[:, :, :end], room.values[:, :, :end]

    def reclaim(self) -> None:
        """Append in place again, where copies have appended: they are used no more."""
        if self._room is not None:
            self._room.filled = self.length

    def _grown(self, new: Tensor, room: Tensor | None, end: int) -> Tensor:
        """More memory, with what has been read in it."""
        grown = new.new_empty(*new.shape[:2], max(end, 2 * self.length), new.shape[3])
        if room is not None:
            grown[:, :, : self.length] = room[:, :, : self.length]
        return grown

    def mask(self, num_tokens: int) -> Tensor | None:
        """Which keys each of the last tokens may see: bool [T, length], or [B, 1, T, length] where rows differ in
        length. None where it sees all."""
        if num_tokens == 1 and self.starts is None:
            return None
        assert self._room is not None
        place = torch.arange(self.length, device=self._room.keys.device)
        seen = place <= place[self.length - num_tokens :].unsqueeze(-1)
        return seen if self.starts is None else seen & (place >= self.starts[:, None, None, None])

    @classmethod
    def stack(cls, caches: Sequence[KeyValueCache]) -> KeyValueCache:
        """The rows of several caches, one below the other; all of them have read something."""
        length = max(cache.length for cache in caches)
        rooms = [cache._read() for cache in caches]
        starts = torch.cat([cache._row_starts() + (length - cache.length) for cache in caches])
        keys, values = (torch.cat([_right_aligned(one, length) for one in part]) for part in zip(*rooms, strict=True))
        return cls._of(keys, values, starts)

    def select(self, rows: list[int]) -> KeyValueCache:
        """A cache of these rows, in this order, without the places that none of them uses."""
        if self._room is None:
            return type(self)()
        keys, values = self._read()
        starts = self._row_starts()[rows]
        used = int(starts.min())
        return self._of(keys[rows, :, used:], values[rows, :, used:], starts - used)

    @classmethod
    def _of(cls, keys: Tensor, values: Tensor, starts: Tensor) -> KeyValueCache:
        cache = cls()
        cache.length, cache._room = keys.shape[2], _Room(keys, values, keys.shape[2])
        cache.starts = starts if starts.any() else None
        return cache

    def _read(self) -> tuple[Tensor, Tensor]:
        assert self._room is not None
        return self._room.keys[:, :, : self.length], self._room.values[:, :, : self.length]

    def _row_starts(self) -> Tensor:
        assert self._room is not None
        keys = self._room.keys
        return keys.new_zeros(len(keys), dtype=torch.int64) if self.starts is None else self.starts


def _right_aligned(read: Tensor, length: int) -> Tensor:
    """What was read, behind zeros (which weigh nothing, unlike what is not finite)."""
    return F.pad(read, (0, 0, length - read.shape[2], 0))


@ours
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
        q_BHTK, k_BHTK, v_BHTK = self._heads(qkv, rotary)
        if cache is not None:
            k_BHTK, v_BHTK = cache.append(k_BHTK, v_BHTK)
        if cache is not None and cache.length > T:
            h_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, attn_mask=cache.mask(T))
        else:
            h_BHTK = causal_attention(q_BHTK, k_BHTK, v_BHTK)
        return self.out(h_BHTK.transpose(1, 2).reshape(B, T, -1))

    def _heads(self, qkv: Tensor, rotary: RotaryTable) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values; both norms in one pass with the rotation where they are ours and alike."""
        q_norm, k_norm = self.q_norm, self.k_norm
        if (
            isinstance(q_norm, RMSNorm)
            and isinstance(k_norm, RMSNorm)
            and q_norm.eps == k_norm.eps
            and untouched(q_norm)
            and untouched(k_norm)
        ):
            gain = torch.stack((q_norm.weight, k_norm.weight))
            return split_heads(qkv, rotary.cos, rotary.sin, gain, q_norm.eps)
        q_BHTK, k_BHTK, v_BHTK = split_heads(qkv, rotary.cos, rotary.sin, None)
        return q_norm(q_BHTK), k_norm(k_BHTK), v_BHTK
