"""From a configuration to the parts that differ between variants, and to their first values."""

from __future__ import annotations

from torch import nn

from deep_delta.models.config import DdlConfig, Mixer
from deep_delta.nn.attention import Attention
from deep_delta.nn.branches import ConstantValue, GateHead, ValueHead
from deep_delta.nn.compress import ChannelConv, ChannelSum, Compressor, FactoredChannelConv, SingleChannel, TokenConv
from deep_delta.nn.delta_net import DeltaNet
from deep_delta.nn.expand import EmbedConv, Repeat
from deep_delta.nn.hyper import HyperOutput, HyperStream
from deep_delta.nn.residual import AdditiveStream, DeltaStream, FusedStream, ResidualStream, WriteOnlyStream
from deep_delta.nn.swiglu import SwiGLU

EMBEDDING_STD = 0.02
MATRIX_GAIN = 0.5


def build_mixer(config: DdlConfig, kind: Mixer) -> Attention | DeltaNet:
    """What mixes the tokens of one layer."""
    if kind == "attention":
        return Attention(
            config.d_model, config.num_heads, config.head_dim, qk_norm=config.qk_norm, norm_eps=config.qk_norm_eps
        )
    return DeltaNet(
        config.d_model,
        config.chunk_size,
        config.num_heads,
        head_dim=config.head_dim,
        conv_size=config.mixer_conv_size,
        neg_eigval=config.neg_eigval,
        output_gate=config.output_gate,
        norm_eps=config.norm_eps,
    )


def build_stream(config: DdlConfig, index: int) -> ResidualStream:
    """The residual stream of sublayer number `index`."""
    stream = _build_stream(config, index)
    if isinstance(stream, FusedStream):
        stream.rebuild = config.state_storage == "rebuilt"
    return stream


def build_output_stream(config: DdlConfig) -> ResidualStream:
    """The residual stream where the output layer reads: it writes, has no parameters and proposes nothing."""
    if config.residual == "additive":
        return AdditiveStream()
    if config.residual == "hyper":
        return HyperOutput()
    return _rewriting(config)(eps=config.k_eps)


def _rewriting(config: DdlConfig) -> type[DeltaStream]:
    return {"delta": DeltaStream, "write_only": WriteOnlyStream}[config.residual]


def _build_stream(config: DdlConfig, index: int) -> ResidualStream:
    if config.residual == "additive":
        return AdditiveStream()
    if config.residual == "hyper":
        return HyperStream(config.d_model, config.d_value, index, norm_eps=config.norm_eps)
    gate = GateHead(config.d_model, config.beta_init, None if config.beta_single_linear else config.beta_hidden)
    value: nn.Module
    if config.value_constant is not None:
        value = ConstantValue(config.d_value, config.value_constant)
    else:
        value = ValueHead(config.d_model, config.d_value, bias=config.value_bias, scale=config.value_scale)
    key = nn.Linear(config.d_model, config.d_model, bias=False) if config.mapping == "v_map" else None
    return _rewriting(config)(gate, value, key=key, value_source=config.value_source, eps=config.k_eps)


def build_compressor(config: DdlConfig) -> Compressor:
    """How a sublayer reads the state, and the output layer; with hyper-connections, the output layer alone."""
    compressor = _build_compressor(config)
    compressor.init_std = MATRIX_GAIN * config.d_model**-0.5 if config.compressor_init == "random" else None
    return compressor


def _build_compressor(config: DdlConfig) -> Compressor:
    if config.d_value == 1:
        return SingleChannel()
    if config.residual == "hyper":
        return ChannelSum()
    if config.compression == "token_conv":
        return TokenConv(config.d_model, config.d_value, config.shortconv_kernel_size)
    if config.compressor_factored:
        taps, causal = config.shortconv_kernel_size, config.compressor_causal
        return FactoredChannelConv(config.d_model, config.d_value, taps, causal=causal)
    return ChannelConv(config.d_model, config.d_value)


def build_expand(config: DdlConfig) -> nn.Module:
    """How the embedding becomes the first state."""
    if config.embed_conv:
        return EmbedConv(config.d_model, config.d_value, config.embed_conv_kernel_size)
    return Repeat(config.d_value)


def initialize(model: nn.Module, config: DdlConfig) -> None:
    """The released code's start: embeddings 0.02, matrices 0.5/√D, those back into the residual 0.5/√D/√num_layers.

    Norms, gates' biases, hyper-connections, compressors and convolutions keep the start that they gave
    themselves (`reset_parameters`), unless `compressor_init` is random.
    """
    std = MATRIX_GAIN * config.d_model**-0.5
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_STD)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, Compressor) and module.init_std is not None:
            module.reset_parameters()
    for module in model.modules():
        if isinstance(module, Attention | DeltaNet):
            nn.init.normal_(module.out.weight, std=std * config.num_layers**-0.5)
        elif isinstance(module, SwiGLU):
            nn.init.normal_(module.down.weight, std=std * config.num_layers**-0.5)
        elif isinstance(module, HyperStream):
            nn.init.zeros_(module.dynamic.weight)
