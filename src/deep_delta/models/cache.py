"""What decoding carries from one call to the next."""

# B batch

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from deep_delta.errors import ConfigError
from deep_delta.models.config import DdlConfig
from deep_delta.nn.attention import KeyValueCache
from deep_delta.nn.compress import BoundaryCache
from deep_delta.nn.delta_net import MemoryCache
from deep_delta.nn.short_conv import ConvTail


class DecodeCache:
    """What every mixer carries (keys and values, or a memory), what every boundary does (one a read of the state), and
    the tail of the convolution that expands the embedding.

    Made by `DdlTransformer.new_cache`; belongs to the model with the weights that it has then. `positions` are the
    tokens that each row has read; the model holds at most `limit` of them, where it has a limit. Every part has `stack`
    and `select`, and so has the whole: rows that were read apart are decoded together.
    """

    def __init__(self, config: DdlConfig, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.limit = config.context_limit
        self.positions = [0] * batch_size
        self.mixers: list[KeyValueCache | MemoryCache] = [
            KeyValueCache() if kind == "attention" else MemoryCache() for kind in config.mixers
        ]
        self.expand = ConvTail()
        self.reads = [BoundaryCache() for _ in range(config.num_sublayers + 1)]

    @property
    def batch_size(self) -> int:
        """Rows."""
        return len(self.positions)

    @property
    def position(self) -> int:
        """Tokens that the longest row has read."""
        return max(self.positions)

    def advance(self, batch_size: int, num_tokens: int) -> int | Tensor:
        """Make sure that some more tokens fit, and count them; the position of the first: one a row, [B], where rows
        differ."""
        if batch_size != self.batch_size:
            raise ConfigError(f"the cache holds a batch of {self.batch_size}, got ids for {batch_size}")
        if self.limit is not None and self.position + num_tokens > self.limit:
            raise ConfigError(
                f"{self.position} + {num_tokens} tokens are more than max_seq_len {self.limit}; "
                "start a new cache with the last part of the text"
            )
        before = self.positions
        self.positions = [position + num_tokens for position in before]
        return before[0] if len(set(before)) == 1 else torch.tensor(before)

    @classmethod
    def stack(cls, caches: Sequence[DecodeCache]) -> DecodeCache:
        """One cache with the rows of several of one model, in order; their lengths may differ.

        `ConfigError` when there is none, or when one has read nothing.
        """
        if not caches or any(0 in cache.positions for cache in caches):
            raise ConfigError("stack needs caches that have each read at least one token")
        positions = [position for cache in caches for position in cache.positions]
        return _joined(caches, positions, lambda parts: type(parts[0]).stack(parts))

    def select(self, rows: Sequence[int]) -> DecodeCache:
        """A cache of these rows of this one, in this order; copies them. `ConfigError` when there is none."""
        if not rows:
            raise ConfigError("select needs at least one row")
        return _joined([self], [self.positions[row] for row in rows], lambda parts: parts[0].select(rows))


def _joined(caches: Sequence[DecodeCache], positions: list[int], join: Callable[[Sequence[Any]], Any]) -> DecodeCache:
    """A cache whose every part is `join` of that part of all the caches."""
    made = copy.copy(caches[0])
    made.positions = positions
    made.mixers = [join(parts) for parts in zip(*(cache.mixers for cache in caches), strict=True)]
    made.expand = join([cache.expand for cache in caches])
    made.reads = [join(parts) for parts in zip(*(cache.reads for cache in caches), strict=True)]
    return made
