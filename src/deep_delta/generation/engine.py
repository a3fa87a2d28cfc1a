"""Text from a model, one token at a time; many prompts at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from deep_delta.errors import ConfigError
from deep_delta.generation.reader import PREFILL_CHUNK, Reader
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
    prefill_chunk: int = PREFILL_CHUNK,
) -> Iterator[str]:
    """Continue `prompt`, yielding text as it comes (never half a character, never a part of a stop string).

    An empty prompt begins a document. The text is what follows the prompt, the blank between the two included, which
    tokenizers of words leave to the decoder. It ends after `max_new_tokens` tokens, at the tokenizer's end of text, or
    before the first stop string. It is a function of the model, the prompt, `sampling` and `seed`; `cached=False`
    computes the same without a cache, slowly. Sequences past the model's context limit slide, and prompts are read in
    chunks, as `Reader` says.
    Errors: `ConfigError` when the model's vocabulary is smaller than the tokenizer's or an argument is out of range;
    `NumericsError` when the logits are not finite.
    """
    pieces = generate_batch(
        model,
        tokenizer,
        [prompt],
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        seed=seed,
        stop=stop,
        cached=cached,
        prefill_chunk=prefill_chunk,
    )
    return (piece for _, piece in pieces)


def generate_batch(
    model: DdlTransformer,
    tokenizer: TextCodec,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 200,
    sampling: Sampling | None = None,
    seed: int = 0,
    stop: Sequence[str] = (),
    cached: bool = True,
    prefill_chunk: int = PREFILL_CHUNK,
) -> Iterator[tuple[int, str]]:
    """Continue many prompts together, a token of each a step; yields (index of the prompt, text) as text comes.

    Every prompt is continued as `generate` continues it alone: it draws from a generator of its own, seeded with
    `seed`, and ends when it ends. So the text is the same, as far as the logits are: a product over more rows may round
    another way, and then two tokens that are as good as equally likely may change places. The errors are `generate`'s.
    """
    if max_new_tokens < 0:
        raise ConfigError(f"max_new_tokens must not be negative, got {max_new_tokens}")
    if model.config.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            f"the model knows {model.config.vocab_size} tokens and the tokenizer {tokenizer.vocab_size}; "
            "use the tokenizer of its checkpoint"
        )
    sampling = sampling or Sampling()
    rows = [_Row(tokenizer, prompt, sampling, seed, StopStrings(stop), max_new_tokens) for prompt in prompts]
    return _pieces(rows, Reader(model, len(rows), cached=cached, prefill_chunk=prefill_chunk))


def _pieces(rows: list[_Row], reader: Reader) -> Iterator[tuple[int, str]]:
    live = {index: row for index, row in enumerate(rows) if row.num_left}
    while live:
        for (index, row), logits in zip(live.items(), reader.read([row.unread for row in live.values()]), strict=True):
            if shown := row.take(logits):
                yield index, shown
        going = [place for place, row in enumerate(live.values()) if row.num_left]
        if len(going) < len(live):
            live = {index: row for index, row in live.items() if row.num_left}
            if live:
                reader.select(going)


class _Continuation:
    """A stream that has read its prompt, on which the blank before the first word may depend."""

    def __init__(self, stream: TextStream, prompt: str, read: Sequence[int]) -> None:
        text = "".join([*map(stream.push, read), stream.flush()])
        self._stream = stream
        self._has_blank = prompt[-1:].isspace() and not text[-1:].isspace()

    def push(self, token: int) -> str:
        return self._after_blank(self._stream.push(token))

    def flush(self) -> str:
        return self._after_blank(self._stream.flush())

    def _after_blank(self, text: str) -> str:
        """Without the blank that the prompt ends in already, where the tokenizer drops such blanks."""
        if not (text and self._has_blank):
            return text
        self._has_blank = False
        return text.removeprefix(" ")


class _Row:
    """The continuation of one prompt: what is to be read next, and what the logits after it become."""

    def __init__(
        self,
        tokenizer: TextCodec,
        prompt: str,
        sampling: Sampling,
        seed: int,
        stops: StopStrings,
        max_new_tokens: int,
    ) -> None:
        self.tokenizer, self.sampling, self.stops = tokenizer, sampling, stops
        read = tokenizer.encode(prompt)
        self.unread = read or [tokenizer.end_of_text]
        self.num_left = max_new_tokens
        self._text = _Continuation(tokenizer.stream(), prompt, read)
        self._generator = torch.Generator().manual_seed(seed)
        self._seen: Tensor | None = None

    def take(self, logits: Tensor) -> str:
        """Draw the token after what was unread, from logits [vocab]; the text that this makes sure."""
        token = draw(logits[: self.tokenizer.vocab_size], self.sampling, self._generator, self._mark_seen(len(logits)))
        self.unread = [token]
        self.num_left -= 1
        if token == self.tokenizer.end_of_text:
            self.num_left, shown = 0, ""
        else:
            shown = self.stops.push(self._text.push(token))
        if self.stops.stopped:
            self.num_left = 0
        elif not self.num_left:
            shown += self.stops.push(self._text.flush())
            shown += "" if self.stops.stopped else self.stops.flush()
        return shown

    def _mark_seen(self, vocab_size: int) -> Tensor | None:
        """Which tokens the sequence holds, all of `unread` among them; None where nothing asks for it."""
        if self.sampling.repetition_penalty == 1:
            return None
        if self._seen is None:
            self._seen = torch.zeros(vocab_size, dtype=torch.bool, device="cpu")
        self._seen[self.unread] = True
        return self._seen[: self.tokenizer.vocab_size]
