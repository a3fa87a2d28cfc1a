"""What decoding carries from one call to the next."""

from __future__ import annotations

from deep_delta.errors import ConfigError
from deep_delta.models.config import DdlConfig
from deep_delta.nn.attention import KeyValueCache
from deep_delta.nn.delta_net import MemoryCache
from deep_delta.nn.short_conv import ConvTail


class DecodeCache:
    """For every layer keys and values, or a DeltaNet's memory; and the tail of every causal convolution: one per read
    of the state, one to expand.

    Made by `DdlTransformer.new_cache`. `position` tokens have been read; a model that attends holds `limit` at most.
    """

    def __init__(self, config: DdlConfig, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.limit = config.context_limit
        self.position = 0
        self.mixers: list[KeyValueCache | MemoryCache] = [
            KeyValueCache() if kind == "attention" else MemoryCache() for kind in config.mixers
        ]
        self.expand = ConvTail()
        self.reads = [ConvTail() for _ in range(config.num_sublayers + 1)]

    def advance(self, batch_size: int, num_tokens: int) -> None:
        """Make sure that some more tokens fit, and count them."""
        if batch_size != self.batch_size:
            raise ConfigError(f"the cache holds a batch of {self.batch_size}, got ids for {batch_size}")
        if self.limit is not None and self.position + num_tokens > self.limit:
            raise ConfigError(
                f"{self.position} + {num_tokens} tokens are more than max_seq_len {self.limit}; "
                "start a new cache with the last part of the text"
            )
        self.position += num_tokens
