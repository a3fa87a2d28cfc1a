"""The transformer: one model, of which every variant is a configuration.

state = expand(embedding)
at each of the 2·num_layers sublayers:  x = compress(state),  c = norm(x),  h = sublayer(c),  rewrite(state; h, c, x)
logits = head(norm(compress(state)))
"""

# B batch, T time, V value channels, D width

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.errors import ConfigError, DataError
from deep_delta.models.build import build_compressor, build_expand, build_mixer, build_stream, initialize
from deep_delta.models.cache import DecodeCache
from deep_delta.models.config import DdlConfig
from deep_delta.nn.attention import Attention
from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.residual import Rewrite
from deep_delta.nn.rotary import RotaryTable, rotary_table
from deep_delta.nn.swiglu import SwiGLU
from deep_delta.ops.linear_cross_entropy import linear_cross_entropy

Observe = Callable[[int, Tensor, Rewrite], None]
"""Called with (sublayer, state [B, T, V, D], rewrite) before each rewrite; sublayer = 2·layer, + 1 for the SwiGLU."""


class Sublayer(nn.Module):
    """A process (a token mixer, SwiGLU), the norm before it and the residual stream that carries its output away."""

    def __init__(self, config: DdlConfig, process: nn.Module, index: int) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.process = process
        self.stream = build_stream(config, index)


class Block(nn.Module):
    """A token mixer and a SwiGLU; one compressor serves both."""

    def __init__(self, config: DdlConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.compress = build_compressor(config)
        self.mixer = Sublayer(config, build_mixer(config, config.mixers[layer]), 2 * layer)
        self.mlp = Sublayer(config, SwiGLU(config.d_model, config.mlp_hidden), 2 * layer + 1)

    def forward(
        self,
        state_BTVD: Tensor,
        rewrite: Rewrite | None,
        rotary: RotaryTable | None = None,
        cache: DecodeCache | None = None,
        observe: Observe | None = None,
    ) -> tuple[Tensor, Rewrite]:
        """Take the state and what the sublayer before wants written; return the same for the next block."""
        for index, sublayer in enumerate((self.mixer, self.mlp), start=2 * self.layer):
            boundary = cache.reads[index] if cache is not None else None
            state_BTVD, reading = sublayer.stream.step(state_BTVD, rewrite, self.compress, sublayer.norm, boundary)
            if sublayer is self.mixer:
                past = cache.mixers[self.layer] if cache is not None else None
                attends = isinstance(sublayer.process, Attention)
                h_BTD = sublayer.process(reading.c, rotary, past) if attends else sublayer.process(reading.c, past)
            else:
                h_BTD = sublayer.process(reading.c)
            rewrite = sublayer.stream.propose(reading, h_BTD)
            if observe is not None:
                observe(index, state_BTVD, rewrite)
        assert rewrite is not None
        return state_BTVD, rewrite


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
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.expand = build_expand(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.readout = build_compressor(config)
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        initialize(self, config)

    def forward(self, ids: Tensor, cache: DecodeCache | None = None, observe: Observe | None = None) -> Tensor:
        """Logits [B, T, vocab_size] of the next token after each of ids [B, T].

        With a `cache` the ids continue what it has read, and it is updated. `observe` sees every rewrite.

        Raises `DataError` when the ids are not [B, T], `ConfigError` when they reach past the `context_limit`.
        """
        return F.linear(self.hidden(ids, cache, observe), self._output_weight())

    def next_logits(self, ids: Tensor, cache: DecodeCache | None = None) -> Tensor:
        """Logits [B, vocab_size] of the token after the last of ids [B, T]: `forward`'s last, without the others."""
        return F.linear(self.hidden(ids, cache)[:, -1], self._output_weight())

    def hidden(self, ids: Tensor, cache: DecodeCache | None = None, observe: Observe | None = None) -> Tensor:
        """The normalised vectors [B, T, D] that the output layer reads."""
        if ids.ndim != 2 or 0 in ids.shape:
            raise DataError(f"ids must be [B, T] with at least one token, got shape {tuple(ids.shape)}")
        embedded_BTD = self.embedding(ids)  # refuses unknown ids before a cache counts them
        start = self._admit(ids, cache)
        rotary = None
        if "attention" in self.config.mixers:
            rotary = rotary_table(start, ids.shape[1], self.config.rotary_dim, self.config.rope_theta, ids.device)
        if torch.is_autocast_enabled(ids.device.type):
            embedded_BTD = embedded_BTD.to(torch.get_autocast_dtype(ids.device.type))
        state_BTVD = self.expand(embedded_BTD, cache.expand if cache is not None else None)
        rewrite = None
        for block in self.blocks:
            state_BTVD, rewrite = block(state_BTVD, rewrite, rotary, cache, observe)
        boundary = cache.reads[-1] if cache is not None else None
        last = self.blocks[-1]
        assert isinstance(last, Block)
        return last.mlp.stream.step(state_BTVD, rewrite, self.readout, self.norm, boundary, last=True)[1].c

    def loss(self, ids: Tensor, targets: Tensor, observe: Observe | None = None) -> Tensor:
        """Mean cross-entropy (nats) of targets [B, T] after ids [B, T], an fp32 scalar; targets of −100 are ignored."""
        hidden = self.hidden(ids, observe=observe).flatten(0, 1)
        return linear_cross_entropy(hidden, self._output_weight(), targets.flatten())

    def new_cache(self, batch_size: int) -> DecodeCache:
        """An empty cache for decoding `batch_size` sequences: `model(ids, cache=cache)` continues from it.

        It carries values and no gradients: those of a loss end at the first token of its own call.
        """
        return DecodeCache(self.config, batch_size)

    def num_parameters(self) -> int:
        """Parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _output_weight(self) -> Tensor:
        return self.embedding.weight if self.head is None else self.head.weight

    def _admit(self, ids: Tensor, cache: DecodeCache | None) -> int | Tensor:
        """Check the ids' length; the position of the first one, [B] where rows differ."""
        if cache is not None:
            return cache.advance(*ids.shape)
        limit = self.config.context_limit
        if limit is not None and ids.shape[1] > limit:
            raise ConfigError(f"{ids.shape[1]} tokens are more than max_seq_len {limit}")
        return 0
