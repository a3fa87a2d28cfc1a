"""From growing sequences of tokens to the logits that follow them: cached, in chunks, sliding past a context limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deep_delta.errors import ConfigError
from deep_delta.models.cache import DecodeCache

if TYPE_CHECKING:
    from deep_delta.models.transformer import DdlTransformer

PREFILL_CHUNK = 1024
"""Tokens of a prompt that are read at a time."""


class Reader:
    """The logits that follow some growing sequences of tokens, its rows, which are decoded together.

    A row sees what it would see alone. Rows that stand at different positions share a cache; what cannot be read
    together (prompts of different lengths) is read apart and stacked. Of long texts at most `prefill_chunk` tokens (one
    a row at least) are read at a time, which bounds the memory and changes nothing else.

    A model with a context limit sees the last part of a row, a window. It slides by halves: when it is full, it starts
    again with its last context_limit // 2 tokens (at least one), re-read from position 0. A first sequence that is too
    long loses its beginning. Without a limit no token is kept, and a token costs the same wherever it stands.

    `cached=False` reads every window anew, at once: the definition, slowly. `ConfigError` when `prefill_chunk` is less
    than 1.
    """

    def __init__(
        self, model: DdlTransformer, num_rows: int = 1, *, cached: bool = True, prefill_chunk: int = PREFILL_CHUNK
    ) -> None:
        if prefill_chunk < 1:
            raise ConfigError(f"prefill_chunk must be at least 1, got {prefill_chunk}")
        self.model = model
        self.cached = cached
        self.prefill_chunk = prefill_chunk
        self.windows: list[list[int]] = [[] for _ in range(num_rows)]
        self._cache: DecodeCache | None = None

    @torch.inference_mode()
    def read(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Append to every row its tokens (at least one); the logits [rows, vocab] of the token after each."""
        together: dict[tuple[bool, int], list[int]] = defaultdict(list)
        unread = []
        for row, (window, new) in enumerate(zip(self.windows, tokens, strict=True)):
            assert new
            fresh, ids = self._unread(window, new)
            together[fresh, len(ids)].append(row)
            unread.append(ids)
        logits, caches = [], []
        for (fresh, _), rows in together.items():
            cache = self._cache_of(rows, fresh)
            logits.append(self._read([unread[row] for row in rows], cache))
            caches.append(cache)
        order = [row for rows in together.values() for row in rows]
        places = sorted(range(len(order)), key=order.__getitem__)
        if self.cached:
            self._cache = caches[0] if len(caches) == 1 else DecodeCache.stack(caches).select(places)  # type: ignore[arg-type]
        return torch.cat(logits)[places] if len(logits) > 1 else logits[0]

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self.windows = [self.windows[row] for row in rows]
        if self._cache is not None:
            self._cache = self._cache.select(rows)

    def _unread(self, window: list[int], new: Sequence[int]) -> tuple[bool, Sequence[int]]:
        """Move a row's window; whether it is to be read from position 0, and what is to be read."""
        first, limit = not window, self.model.config.context_limit
        if limit is not None or not self.cached:
            window += new
        if limit is not None and len(window) > limit:
            del window[: -(limit if first else max(1, limit // 2))]
            return True, window[:]
        return self._cache is None, new if self.cached else window[:]

    def _cache_of(self, rows: list[int], fresh: bool) -> DecodeCache | None:
        if not self.cached:
            return None
        if fresh:
            return self.model.new_cache(len(rows))
        assert self._cache is not None
        return self._cache if len(rows) == len(self.windows) else self._cache.select(rows)

    def _read(self, rows: list[Sequence[int]], cache: DecodeCache | None) -> Tensor:
        ids = torch.tensor(rows, dtype=torch.int64, device=next(self.model.parameters()).device)
        if cache is None:
            return self.model.next_logits(ids)
        for piece in ids.split(max(1, self.prefill_chunk // len(ids)), dim=1):
            logits = self.model.next_logits(piece, cache)
        return logits
