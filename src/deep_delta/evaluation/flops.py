"""Floating-point operations of a model, by formula.

A multiplication and an addition count as two operations; norms, softmax, gates' sigmoids and other operations that do
one thing per number are not counted, nor is what the backward pass may compute twice.
"""

# D width, V value channels, T tokens of context

from __future__ import annotations

from dataclasses import dataclass

from deep_delta.models.config import DdlConfig


@dataclass(frozen=True)
class FlopsPerToken:
    """Operations of the forward pass for one token of a sequence."""

    projections: int
    """the token mixers' and SwiGLU's matrices"""
    mixing: int
    """attention: scores and their weighted sum, over the whole square of the sequence as a plain implementation does;
    DeltaNet: its short convolutions, and three passes over the memory at each token"""
    generators: int
    """the matrices that make k̃, v and β, or the coefficients of hyper-connections"""
    stream: int
    """reading, mixing, rewriting and expanding the state"""
    head: int
    """the output layer"""

    @property
    def forward(self) -> int:
        return self.projections + self.mixing + self.generators + self.stream + self.head

    @property
    def training(self) -> int:
        """Forward and backward; the gradients of both factors of a product cost the product once more each."""
        return 3 * self.forward


def flops_per_token(config: DdlConfig, seq_len: int) -> FlopsPerToken:
    """Counted operations for one token of a sequence of `seq_len` tokens."""
    width = config.d_model
    attending = config.mixers.count("attention")
    rewriting = config.num_layers - attending
    mlp = 3 * width * config.mlp_hidden
    return FlopsPerToken(
        projections=2 * (config.num_layers * (_mixer_matrices(config) + mlp) + rewriting * _delta_net_matrices(config)),
        mixing=attending * 2 * 2 * seq_len * _inner(config) + rewriting * _delta_net_mixing(config),
        generators=0 if config.residual == "additive" else config.num_sublayers * _generators(config),
        stream=_stream(config),
        head=2 * width * config.vocab_size,
    )


def _inner(config: DdlConfig) -> int:
    return config.num_heads * config.head_dim


def _mixer_matrices(config: DdlConfig) -> int:
    """Queries, keys, values and output: the same for both mixers."""
    return 4 * config.d_model * _inner(config)


def _delta_net_matrices(config: DdlConfig) -> int:
    """The gates of the memory and of the output."""
    return config.d_model * (config.num_heads + (_inner(config) if config.output_gate else 0))


def _delta_net_mixing(config: DdlConfig) -> int:
    """kᵀS, + β k (…)ᵀ and Sᵀq for K² cells a head; the convolutions of q, k and v."""
    return 3 * 2 * _inner(config) * config.head_dim + 3 * 2 * _inner(config) * config.mixer_conv_size


def _generators(config: DdlConfig) -> int:
    width = config.d_model
    if config.residual == "hyper":
        return 2 * config.d_value * width * (config.d_value + 2)
    gate = width if config.beta_single_linear else width * config.beta_hidden + config.beta_hidden
    value = 0 if config.value_constant is not None else width * config.d_value
    key = width * width if config.mapping == "v_map" else 0
    return 2 * (gate + value + key)


def _stream(config: DdlConfig) -> int:
    """Reads before each sublayer and the output; rewrites after each sublayer; the embedding's convolution."""
    cells = config.d_model * config.d_value
    expand = 2 * cells * config.embed_conv_kernel_size if config.embed_conv else 0
    if config.residual == "hyper":
        mix, total = 2 * cells * (config.d_value + 1), cells - config.d_model
        return expand + config.num_sublayers * (mix + _write(config, cells)) + total
    return expand + (config.num_sublayers + 1) * _read(config, cells) + config.num_sublayers * _write(config, cells)


def _read(config: DdlConfig, cells: int) -> int:
    if config.d_value == 1:
        return 0
    taps = config.shortconv_kernel_size if config.compression == "token_conv" else 1
    return 2 * cells * taps


def _write(config: DdlConfig, cells: int) -> int:
    """kᵀX and + β k (…)ᵀ; one that does not erase does not read, and an additive one only adds."""
    return {"additive": cells, "write_only": 2 * cells, "hyper": 2 * cells, "delta": 4 * cells}[config.residual]
