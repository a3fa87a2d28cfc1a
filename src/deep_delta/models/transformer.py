"""The transformer: one model, of which every variant is a configuration.

state = expand(embedding)
at each of the 2·num_layers sublayers:  x = compress(state),  c = norm(x),  h = sublayer(c),  rewrite(state; h, c, x)
logits = head(norm(compress(state)))
"""

# B batch, T time, V value channels, D width

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deep_delta.errors import ConfigError, DataError
from deep_delta.models.build import (
    build_compressor,
    build_expand,
    build_mixer,
    build_output_stream,
    build_stream,
    initialize,
)
from deep_delta.models.cache import DecodeCache, LayerCache
from deep_delta.models.config import DdlConfig, Mixer
from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.parts import call, untouched
from deep_delta.nn.residual import Boundary, Rewrite
from deep_delta.nn.rotary import RotaryTable, rotary_table
from deep_delta.nn.swiglu import SwiGLU
from deep_delta.ops.linear_cross_entropy import IGNORED, Reduction, cross_entropy, linear_cross_entropy
from deep_delta.ops.plain import autocast_dtype, wants_plain

Observe = Callable[[int, Tensor, Rewrite], None]
"""Called with (sublayer, state [B, T, V, D], rewrite) before each rewrite; sublayer = 2·layer, + 1 for the SwiGLU."""


Flow = tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]
"""What goes from one sublayer to the next: the state, and the parts of the `Rewrite` that is to be written into it.
Flat, so that whoever wraps a block (checkpointing, sharding) sees every tensor."""


class Place:
    """What a sublayer gets beside the flow: how its block reads the state, the positions of its tokens (for attention),
    and what this place in the model carries while decoding.

    Neither a tuple nor a dataclass: wrappers leave it as it is.
    """

    __slots__ = ("cache", "compress", "rotary")

    def __init__(
        self, compress: nn.Module | None = None, rotary: RotaryTable | None = None, cache: LayerCache | None = None
    ) -> None:
        self.compress, self.rotary, self.cache = compress, rotary, cache


class Sublayer(nn.Module):
    """A process (a token mixer, SwiGLU), the norm before it and the residual stream that carries its output away."""

    def __init__(self, config: DdlConfig, kind: Mixer | Literal["mlp"], index: int) -> None:
        super().__init__()
        self.kind = kind
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.process = SwiGLU(config.d_model, config.mlp_hidden) if kind == "mlp" else build_mixer(config, kind)
        self.stream = build_stream(config, index)

    def forward(
        self,
        state_BTVD: Tensor,
        direction: Tensor | None = None,
        value: Tensor | None = None,
        beta: Tensor | None = None,
        carry: Tensor | None = None,
        place: Place | None = None,
    ) -> Flow:
        """Take the state and what the sublayer before wants written; return the same for the next sublayer."""
        place, stream = place or Place(), self.stream
        rewrite = Rewrite.of(direction, value, beta, carry)
        cache = place.cache
        boundary = Boundary(place.compress, self.norm, None if cache is None else cache.reads[int(self.kind == "mlp")])
        if not hasattr(stream, "propose"):
            raise ConfigError(
                f"a {type(stream).__name__} in the place of a residual stream is asked for what to write, and has "
                "no propose; subclass the stream, or hook it"
            )
        state_BTVD, reading = stream(state_BTVD, rewrite, boundary)
        return state_BTVD, *stream.propose(reading, self._process(reading.c, place))

    def _process(self, c_BTD: Tensor, place: Place) -> Tensor:
        if self.kind == "mlp":
            return self.process(c_BTD)
        past = None if place.cache is None else place.cache.mixer_of(self.kind)
        positions = (place.rotary,) if self.kind == "attention" else ()
        return call(self.process, "a token mixer", c_BTD, offered=positions, cache=past)


class Block(nn.Module):
    """A token mixer and a SwiGLU; one compressor serves both.

    It knows nothing of its place: the same block may stand at several places of a model.
    """

    def __init__(self, config: DdlConfig, layer: int) -> None:
        super().__init__()
        self.compress = None if config.residual == "hyper" else build_compressor(config)
        self.mixer = Sublayer(config, config.mixers[layer], 2 * layer)
        self.mlp = Sublayer(config, "mlp", 2 * layer + 1)

    def forward(
        self,
        state_BTVD: Tensor,
        direction: Tensor | None = None,
        value: Tensor | None = None,
        beta: Tensor | None = None,
        carry: Tensor | None = None,
        rotary: RotaryTable | None = None,
        cache: LayerCache | None = None,
        observe: Observe | None = None,
    ) -> Flow:
        """Take the state and what the sublayer before wants written; return the same for the next block.

        `rotary` is for attention; `cache` is what this place carries while decoding; `observe` is called with 0 for the
        mixer and 1 for the SwiGLU.
        """
        place = Place(self.compress, rotary, cache)
        flow = self.mixer(state_BTVD, direction, value, beta, carry, place)
        if observe is not None:
            observe(0, flow[0], Rewrite(*flow[1:]))
        flow = self.mlp(*flow, place)
        if observe is not None:
            observe(1, flow[0], Rewrite(*flow[1:]))
        return flow


class DdlTransformer(nn.Module):
    """A decoder-only transformer whose residual stream and token mixers are any of `DdlConfig`'s.

        >>> import torch
        >>> from deep_delta import DdlTransformer, variant_config
        >>> model = DdlTransformer(variant_config("ddl-cc-ec", d_model=64, num_layers=2, num_heads=4, vocab_size=256))
        >>> model(torch.randint(0, 256, (2, 16))).shape
        torch.Size([2, 16, 256])

    Parameters are drawn from torch's global generator; `torch.manual_seed` before construction fixes them. Under
    autocast the state is kept in the autocast precision, for every kind of residual alike.
    """

    def __init__(self, config: DdlConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        """Keep only what enters each block, and run the block again in the backward pass (activation checkpointing)."""
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.expand = build_expand(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.stream = build_output_stream(config)
        self.readout = build_compressor(config)
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head: nn.Module | None = None
        if not config.tie_embeddings:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        initialize(self, config)

    def forward(
        self,
        ids: Tensor,
        targets: Tensor | None = None,
        *,
        cache: DecodeCache | None = None,
        observe: Observe | None = None,
        reduction: Reduction = "mean",
        logits_to_keep: int = 0,
    ) -> Tensor:
        """Logits [B, T, vocab_size] of the next token after each of ids [B, T]; with targets, the loss.

        Args:
            ids: int64 or int32, [B, T] with at least one token.
            targets: [B, T]. The result is then the cross-entropy (nats) of the targets after the ids, an fp32 scalar;
                targets of −100 are ignored, and where all are, the loss and its gradients are 0.
            cache: the ids continue what it has read, and it is updated; left as it was when the pass fails.
            observe: sees every rewrite.
            reduction: "mean" over the targets that count, or their "sum".
            logits_to_keep: of the last so many tokens only; 0 keeps all.

        Raises:
            DataError: ids or targets are not [B, T], or one of them is not in the vocabulary.
            ConfigError: the ids reach past the `context_limit`, or a part that was replaced cannot do its work.
        """
        self._check(ids, targets)
        going = None if cache is None else cache.__copy__()  # PyTorch 2.10 cannot trace copy.copy
        hidden_BTD = self._hidden(ids, going, observe)
        if targets is None:
            out = self._logits(hidden_BTD[:, -logits_to_keep:] if logits_to_keep else hidden_BTD)
        else:
            out = self._cross_entropy(hidden_BTD.flatten(0, 1), targets.flatten(), reduction)
        if cache is not None and going is not None:
            cache.become(going)
        return out

    def next_logits(self, ids: Tensor, cache: DecodeCache | None = None) -> Tensor:
        """Logits [B, vocab_size] of the token after the last of ids [B, T]: `forward`'s last, without the others."""
        logits: Tensor = self(ids, cache=cache, logits_to_keep=1)
        return logits[:, -1]

    def loss(
        self, ids: Tensor, targets: Tensor, observe: Observe | None = None, reduction: Reduction = "mean"
    ) -> Tensor:
        """`model(ids, targets)`, which is what wrappers see: `torch.compile(model)(ids, targets)`, DDP, FSDP2."""
        loss: Tensor = self(ids, targets, observe=observe, reduction=reduction)
        return loss

    def new_cache(self, batch_size: int) -> DecodeCache:
        """An empty cache for decoding `batch_size` sequences: `model(ids, cache=cache)` continues from it.

        It carries values and no gradients: those of a loss end at the first token of its own call.
        """
        return DecodeCache(batch_size, len(self.blocks), self.config.context_limit)

    def num_parameters(self) -> int:
        """Parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def init_weights(self) -> None:
        """Give every parameter its first value, as construction does: for a model that was made on the meta device and
        then given memory (`to_empty`). Draws from torch's global generator."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
        initialize(self, self.config)

    def _hidden(self, ids: Tensor, cache: DecodeCache | None, observe: Observe | None) -> Tensor:
        """The normalised vectors [B, T, D] that the output layer reads; the cache goes on."""
        start = self._admit(ids, cache)
        embedded_BTD = self.embedding(ids)
        if (narrow := autocast_dtype(ids.device.type)) is not None:
            embedded_BTD = embedded_BTD.to(narrow)
        rotary = None
        if "attention" in self.config.mixers:
            rotary = rotary_table(start, ids.shape[1], self.config.rotary_dim, self.config.rope_theta, ids.device)
        state_BTVD = call(self.expand, "expand", embedded_BTD, cache=None if cache is None else cache.expand)
        recompute = self.recompute and torch.is_grad_enabled() and cache is None and observe is None
        flow: tuple[Any, ...] = (state_BTVD, None, None, None, None)
        for place, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layers[place]
            if recompute:
                flow = checkpoint(block, *flow, rotary, use_reentrant=False)
            else:
                flow = block(*flow, rotary, layer, None if observe is None else _at(observe, place))
        state_BTVD, *rewrite = flow
        boundary = Boundary(self.readout, self.norm, None if cache is None else cache.output)
        c_BTD = self.stream(state_BTVD, Rewrite.of(*rewrite), boundary)[1].c
        return c_BTD

    def _logits(self, hidden: Tensor) -> Tensor:
        if self.head is None:
            return F.linear(hidden, self._output_weight(hidden))
        logits: Tensor = self.head(hidden)
        return logits

    def _cross_entropy(self, hidden: Tensor, answers: Tensor, reduction: Reduction) -> Tensor:
        if self.head is None or (untouched(self.head) and self.head.bias is None):
            return linear_cross_entropy(hidden, self._output_weight(hidden), answers, IGNORED, reduction)
        return cross_entropy(self._logits(hidden), answers, IGNORED, reduction)

    def _output_weight(self, hidden: Tensor) -> Tensor:
        if self.head is not None:
            assert isinstance(self.head.weight, Tensor)
            return self.head.weight
        weight: object = getattr(self.embedding, "weight", None)
        if not isinstance(weight, Tensor):
            raise ConfigError(
                f"tie_embeddings reads embedding.weight for the output, and a {type(self.embedding).__name__} has "
                "none; build the model with tie_embeddings=False, or set model.head"
            )
        if weight.is_meta and not hidden.is_meta:  # offloaded: there while the module is called, and only then
            table: Tensor = self.embedding(torch.arange(len(weight), device=hidden.device))
            return table
        return weight

    def _check(self, ids: Tensor, targets: Tensor | None) -> None:
        """Refuse what is no text of this vocabulary. Values are looked at on a CPU only: elsewhere that would wait."""
        if ids.ndim != 2 or 0 in ids.shape:
            raise DataError(f"ids must be [B, T] with at least one token, got shape {tuple(ids.shape)}")
        words = getattr(self.embedding, "num_embeddings", self.config.vocab_size)
        _check_numbers("id", ids, 0, words)
        if targets is not None:
            if targets.shape != ids.shape:
                raise DataError(f"targets must be {tuple(ids.shape)} like ids, got shape {tuple(targets.shape)}")
            _check_numbers("target", targets, IGNORED, words)

    def _admit(self, ids: Tensor, cache: DecodeCache | None) -> int | Tensor:
        """Check the ids' length; the position of the first one, [B] where rows differ."""
        if cache is not None:
            if len(cache.layers) != len(self.blocks):
                raise ConfigError(f"the cache has {len(cache.layers)} layers and the model {len(self.blocks)}")
            return cache.advance(*ids.shape)
        limit = self.config.context_limit
        if limit is not None and ids.shape[1] > limit:
            raise ConfigError(f"{ids.shape[1]} tokens are more than max_seq_len {limit}")
        return 0


def _at(observe: Observe, place: int) -> Observe:
    """`observe` for the block at a place."""
    return lambda sublayer, state, rewrite: observe(2 * place + sublayer, state, rewrite)


def _check_numbers(name: str, numbers: Tensor, least: int, words: int) -> None:
    """Every number is a word of the vocabulary, or `least` where that is negative."""
    if numbers.dtype not in (torch.int64, torch.int32):
        raise DataError(f"{name}s must be int64 or int32, got {numbers.dtype}")
    if wants_plain(numbers) or numbers.device.type != "cpu":
        return
    low, high = (one.item() for one in numbers.aminmax())
    if high < words and low >= 0:
        return
    bad = ((numbers < 0) & (numbers != least)) | (numbers >= words)
    if bad.any():
        row, place = bad.nonzero()[0].tolist()
        raise DataError(f"{name} {numbers[row, place]} at [{row}, {place}] is not in the vocabulary of {words} tokens")
