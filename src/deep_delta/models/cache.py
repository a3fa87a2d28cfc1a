"""What decoding carries from one call to the next."""

# B batch

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from deep_delta.errors import ConfigError
from deep_delta.models.config import Mixer
from deep_delta.nn.attention import KeyValueCache
from deep_delta.nn.compress import BoundaryCache
from deep_delta.nn.delta_net import MemoryCache
from deep_delta.nn.short_conv import ConvTail


class LayerCache:
    """What one place in the list of blocks carries: what its `mixer` does (keys and values, or a memory), and its two
    reads of the state. The mixer's part is made when a block first reads there."""

    def __init__(self) -> None:
        self.mixer: KeyValueCache | MemoryCache | None = None
        self.reads = (BoundaryCache(), BoundaryCache())

    def mixer_of(self, kind: Mixer) -> KeyValueCache | MemoryCache:
        """The part of a mixer of this kind."""
        if self.mixer is None:
            self.mixer = KeyValueCache() if kind == "attention" else MemoryCache()
        return self.mixer

    def __copy__(self) -> LayerCache:
        made, (first, second) = LayerCache.__new__(LayerCache), self.reads
        made.mixer = None if self.mixer is None else self.mixer.__copy__()
        made.reads = (first.__copy__(), second.__copy__())
        return made

    @classmethod
    def stack(cls, caches: Sequence[LayerCache]) -> LayerCache:
        """The rows of several, one below the other."""
        return cls._joined(caches, lambda parts: type(parts[0]).stack(parts))

    def select(self, rows: list[int]) -> LayerCache:
        """These rows, in this order."""
        return self._joined([self], lambda parts: parts[0].select(rows))

    @classmethod
    def _joined(cls, caches: Sequence[LayerCache], join: Callable[[Sequence[Any]], Any]) -> LayerCache:
        made, mixers = cls(), [cache.mixer for cache in caches]
        made.mixer = None if None in mixers else join(mixers)
        made.reads = (join([cache.reads[0] for cache in caches]), join([cache.reads[1] for cache in caches]))
        return made


class DecodeCache:
    """What every block carries, place by place, what the output's read does, and the tail of the convolution that
    expands the embedding.

    Made by `DdlTransformer.new_cache`; belongs to that model. `positions` are the tokens that each row has read; the
    model holds at most `limit` of them, where it has a limit. Every part has `stack` and `select`, and so has the
    whole: rows that were read apart are decoded together.

    `copy.copy(cache)` is a cache that goes on by itself from the same place, at no cost; `copy.deepcopy` shares no
    memory with it. A forward pass that fails leaves the cache as it was.
    """

    def __init__(self, batch_size: int, num_layers: int, limit: int | None = None) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.limit = limit
        self.batch_size = batch_size
        self.position = 0
        """Tokens that the longest row has read."""
        self.behind: tuple[int, ...] | None = None
        """How many tokens fewer each row has read; None where all are equal."""
        self.layers = [LayerCache() for _ in range(num_layers)]
        self.expand = ConvTail()
        self.output = BoundaryCache()

    @property
    def positions(self) -> list[int]:
        """Tokens that each row has read."""
        return [self.position - fewer for fewer in self.behind or (0,) * self.batch_size]

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        made.limit, made.batch_size = self.limit, self.batch_size
        made.position, made.behind = self.position, self.behind
        made.layers = [layer.__copy__() for layer in self.layers]
        made.expand, made.output = self.expand.__copy__(), self.output.__copy__()
        return made

    def become(self, other: DecodeCache) -> None:
        """Go on from where another one is, which is used no more."""
        self.position = other.position
        self.layers, self.expand, self.output = other.layers, other.expand, other.output

    def reclaim(self) -> None:
        """Append in place again, where copies have appended: they are used no more."""
        for layer in self.layers:
            if isinstance(layer.mixer, KeyValueCache):
                layer.mixer.reclaim()

    def advance(self, batch_size: int, num_tokens: int) -> int | Tensor:
        """Make sure that some more tokens fit, and count them; the position of the first: one a row, [B], where rows
        differ."""
        if batch_size != self.batch_size:
            raise ConfigError(f"the cache holds a batch of {self.batch_size}, got ids for {batch_size}")
        before = self.position
        if self.limit is not None and before + num_tokens > self.limit:
            raise ConfigError(
                f"{before} + {num_tokens} tokens are more than max_seq_len {self.limit}; "
                "start a new cache with the last part of the text"
            )
        self.position = before + num_tokens
        return before if self.behind is None else before - torch.tensor(self.behind, device="cpu")

    @classmethod
    def stack(cls, caches: Sequence[DecodeCache]) -> DecodeCache:
        """One cache with the rows of several of one model, in order; their lengths may differ.

        `ConfigError` when there is none, or when one has read nothing.
        """
        if not caches or any(0 in cache.positions for cache in caches):
            raise ConfigError("stack needs caches that have each read at least one token")
        if len({len(cache.layers) for cache in caches}) > 1:
            raise ConfigError("stack needs caches of one model, and these have different numbers of layers")
        positions = [position for cache in caches for position in cache.positions]
        return _joined(caches, positions, lambda parts: type(parts[0]).stack(parts))

    def select(self, rows: Sequence[int] | Tensor | slice) -> DecodeCache:
        """A cache of these rows of this one, in this order; copies them.

        `rows` are numbers, a tensor or array of numbers, one truth value a row, or a slice. `ConfigError` when there is
        none, or no such row.
        """
        chosen = self._rows(rows)
        positions = self.positions
        return _joined([self], [positions[row] for row in chosen], lambda parts: parts[0].select(chosen))

    def _rows(self, rows: Any) -> list[int]:
        numbers = torch.arange(self.batch_size, device="cpu")
        index = rows if isinstance(rows, slice) else torch.as_tensor(rows, device="cpu")
        if (
            isinstance(index, Tensor)
            and index.dtype != torch.bool
            and not (index.is_floating_point() and index.numel())
        ):
            index = index.long()  # uint8 too, which PyTorch would take for truth values
        try:
            chosen = numbers[index]
        except IndexError as error:
            raise ConfigError(f"the cache has {self.batch_size} rows: {error}") from None
        if not chosen.numel():
            raise ConfigError("select needs at least one row")
        return chosen.flatten().tolist()


def _joined(caches: Sequence[DecodeCache], positions: list[int], join: Callable[[Sequence[Any]], Any]) -> DecodeCache:
    """A cache whose every part is `join` of that part of all the caches."""
    made = type(caches[0])(len(positions), 0, caches[0].limit)
    made.position = max(positions)
    behind = tuple(made.position - position for position in positions)
    made.behind = behind if any(behind) else None
    made.layers = [join(parts) for parts in zip(*(cache.layers for cache in caches), strict=True)]
    made.expand = join([cache.expand for cache in caches])
    made.output = join([cache.output for cache in caches])
    return made
