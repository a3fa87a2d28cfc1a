"""What decoding carries from one call to the next."""

from __future__ import annotations

from deep_delta.errors import ConfigError
from deep_delta.models.config import DdlConfig
from deep_delta.nn.attention import KeyValueCache
from deep_delta.nn.short_conv import ConvTail


class DecodeCache:
    """Keys and values of every layer, and the tail of every causal convolution: one per read of the state, one to
    expand.

    Made by `DdlTransformer.new_cache`. `position` tokens have been read; the model holds at most `max_seq_len`.
    """

    def __init__(self, config: DdlConfig, batch_size: int) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.max_seq_len = config.max_seq_len
        self.position = 0
        self.mixers = [KeyValueCache() for _ in range(config.num_layers)]
        self.expand = ConvTail()
        self.reads = [ConvTail() for _ in range(config.num_sublayers + 1)]

    def advance(self, batch_size: int, num_tokens: int) -> None:
        """Make sure that some more tokens fit, and count them."""
        if batch_size != self.batch_size:
            raise ConfigError(f"the cache holds a batch of {self.batch_size}, got ids for {batch_size}")
        if self.position + num_tokens > self.max_seq_len:
            raise ConfigError(
                f"{self.position} + {num_tokens} tokens are more than max_seq_len {self.max_seq_len}; "
                "start a new cache with the last part of the text"
            )
        self.position += num_tokens
