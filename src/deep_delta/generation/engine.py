"""Text from a model, one token at a time: cached decoding, and a sliding window past `max_seq_len`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from deep_delta.errors import ConfigError
from deep_delta.generation.sampling import Sampling, draw
from deep_delta.generation.stopping import StopStrings

if TYPE_CHECKING:
    from deep_delta.models.transformer import DdlTransformer


class TextStream(Protocol):
    """Turns token ids into text as they come, whole characters only."""

    def push(self, token: int, /) -> str: ...

    def flush(self) -> str: ...


class TextCodec(Protocol):
    """What generation needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def end_of_text(self) -> int: ...

    def encode(self, text: str, /) -> list[int]: ...

    def stream(self) -> TextStream: ...


class Reader:
    """The logits that follow a growing sequence of tokens, at most `max_seq_len` of which the model sees.

    The window slides by halves: when it is full, it starts again with its last max_seq_len // 2 tokens (at least one),
    re-read from position 0. A first sequence that is too long loses its beginning. Cached and uncached reading see the
    same windows, so they give the same logits; the cache makes a token cost the same wherever it stands in a window.
    """

    def __init__(self, model: DdlTransformer, *, cached: bool = True) -> None:
        self.model = model
        self.cached = cached
        self.window: list[int] = []
        self._cache = model.new_cache(1)
        self._unread = 0

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Append `tokens` (at least one) and return the logits [vocab] of the token after them."""
        assert tokens
        limit = self.model.config.max_seq_len
        whole = [*self.window, *tokens]
        if len(whole) <= limit:
            self._unread = len(tokens)
        else:
            whole = whole[-(max(1, limit // 2) if self.window else limit) :]
            self._unread = len(whole)
            self._cache = self.model.new_cache(1)
        self.window = whole
        return self._logits()

    @torch.inference_mode()
    def _logits(self) -> Tensor:
        device = next(self.model.parameters()).device
        if self.cached:
            fresh = torch.tensor([self.window[-self._unread :]], device=device)
            return self.model(fresh, cache=self._cache)[0, -1]
        return self.model(torch.tensor([self.window], device=device))[0, -1]


def generate(
    model: DdlTransformer,
    tokenizer: TextCodec,
    prompt: str,
    *,
    max_new_tokens: int = 200,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: Sequence[str] = (),
    cached: bool = True,
) -> Iterator[str]:
    """Continue `prompt`, yielding text as it comes (never half a character, never a part of a stop string).

    An empty prompt begins a document. It ends after `max_new_tokens` tokens, at the tokenizer's end of text, or before
    the first stop string. The text is a function of the model, the prompt, `sampling` and `seed`; `cached=False`
    computes the same without a cache, slowly. Sequences longer than `max_seq_len` slide as `Reader` says.
    Errors: `ConfigError` when the model's vocabulary is smaller than the tokenizer's or an argument is out of range;
    `NumericsError` when the logits are not finite.
    """
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens must not be negative, got {max_new_tokens}")
    if model.config.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            f"the model knows {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}; "
            "use the tokenizer of its checkpoint"
        )
    return _pieces(model, tokenizer, prompt, max_new_tokens, sampling or Sampling(), seed, StopStrings(stop), cached)


def _pieces(
    model: DdlTransformer,
    tokenizer: TextCodec,
    prompt: str,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
    stops: StopStrings,
    cached: bool,
) -> Iterator[str]:
    generator = torch.Generator().manual_seed(seed)
    reader, text = Reader(model, cached=cached), tokenizer.stream()
    unread = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    for _ in range(max_new_tokens):
        token = draw(reader.read(unread)[: tokenizer.vocab_size], sampling, generator)
        if token == tokenizer.end_of_text:
            break
        if shown := stops.push(text.push(token)):
            yield shown
        if stops.stopped:
            return
        unread = [token]
    if shown := stops.push(text.flush()):
        yield shown
    if not stops.stopped and (shown := stops.flush()):
        yield shown
