"""The configuration of the one transformer (and of every variant of it). Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from deep_delta.runs.record import Record

Count = Annotated[int, Field(ge=1, le=2**24)]
Residual = Literal["additive", "delta", "write_only"]
Mixer = Literal["attention"]
Compression = Literal["token_conv", "channel_conv"]
Mapping = Literal["k_map", "v_map"]
ValueSource = Literal["context", "state", "branch"]


class DdlConfig(Record):
    """Everything that shapes a `DdlTransformer`; validated, frozen, and saved with every checkpoint.

    Fields that only the released code of the paper needs are the last group: they let its parameters be loaded exactly
    (`deep_delta.integrations.released_code`).
    """

    d_model: Count = Field(description="width D of the model")
    num_layers: Count = Field(description="blocks; each has two sublayers, so 2·num_layers residual updates")
    num_heads: Count = Field(description="attention heads")
    vocab_size: Count = Field(description="tokens the embedding knows")
    d_value: Annotated[int, Field(ge=1, le=64)] = Field(1, description="value channels V of the state (paper: d_v)")
    head_dim: Count = Field(None, description="width of one head; d_model / num_heads when unset")  # type: ignore[assignment]
    mlp_hidden: Count = Field(None, description="hidden width of SwiGLU; ceil(8·d_model/3) when unset")  # type: ignore[assignment]

    residual: Residual = Field("delta", description="how a sublayer's output enters the state")
    mixer: Mixer = Field("attention", description="what mixes tokens")
    mapping: Mapping = Field("k_map", description="k_map: the sublayer gives the direction; v_map: it gives the value")
    value_source: ValueSource = Field("context", description="what W_v reads under k_map")
    value_scale: float | None = Field(None, gt=0, le=1e6, description="s of the bounded value s·σ(·); unset: linear")
    value_bias: bool = Field(False, description="a bias in W_v")
    value_constant: float | None = Field(None, ge=-1e6, le=1e6, description="a constant value instead of W_v")

    beta_init: float = Field(0.5, gt=0, lt=2, description="gate β at the start, in (0, 2)")
    beta_single_linear: bool = Field(True, description="one linear layer for the gate; else two with tanh")
    beta_hidden: Count = Field(128, description="hidden width of the two-layer gate")
    k_eps: float = Field(1e-6, ge=0, le=1, description="ε of the direction's normalisation")

    compression: Compression = Field("token_conv", description="how the state is read when d_value > 1")
    shortconv_kernel_size: Annotated[int, Field(ge=1, le=64)] = Field(4, description="taps of token_conv over time")
    compressor_init: Literal["mean", "random"] = Field("mean", description="mean over channels, or as released")
    compressor_factored: bool = Field(False, description="channel_conv as the released code's two factors")
    embed_conv: bool = Field(False, description="expand the embedding by a causal convolution")
    embed_conv_kernel_size: Annotated[int, Field(ge=1, le=64)] = Field(4, description="its taps over time")

    max_seq_len: Count = Field(128, description="longest sequence that the model is built for")
    rope_theta: float = Field(10000.0, gt=0, le=1e12, description="base of the rotary frequencies")
    rope_fraction: float = Field(1.0, ge=0, le=1, description="share of each head that is rotated")
    qk_norm: bool = Field(True, description="learnable RMSNorm on q and k, after RoPE")
    norm_eps: float = Field(1e-5, gt=0, le=1, description="ε of the RMSNorms before sublayers and output")
    qk_norm_eps: float = Field(1e-5, gt=0, le=1, description="ε of the RMSNorms on q and k")
    tie_embeddings: bool = Field(True, description="one matrix for embedding and output")
    state_storage: Literal["stored", "rebuilt"] = Field(
        "stored", description="what the backward pass keeps of the state"
    )

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, fields: Any) -> Any:
        """Fill in the widths that follow from others."""
        if not isinstance(fields, dict):
            return fields
        fields = dict(fields)
        d_model, num_heads = fields.get("d_model"), fields.get("num_heads")
        sane = all(isinstance(n, int) and 0 < n <= 2**24 for n in (d_model, num_heads))
        if fields.get("head_dim") is None:
            if sane and d_model % num_heads:
                raise ValueError(f"d_model must be divisible by num_heads, got {d_model} and {num_heads}")
            fields["head_dim"] = d_model // num_heads if sane else 1
        if fields.get("mlp_hidden") is None:
            fields["mlp_hidden"] = math.ceil(8 * d_model / 3) if sane else 1
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> DdlConfig:
        if self.rotary_dim % 2:
            raise ValueError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if self.residual == "additive" and self.d_value != 1:
            raise ValueError(f"residual additive has one value channel, got d_value {self.d_value}")
        if self.embed_conv and self.d_value == 1:
            raise ValueError("embed_conv expands the embedding over value channels, so it needs d_value > 1")
        if self.value_constant is not None and self.mapping == "v_map":
            raise ValueError("value_constant leaves nothing for mapping v_map to learn; use k_map")
        return self

    @property
    def rotary_dim(self) -> int:
        """How many features of each head are rotated."""
        if self.rope_fraction == 1.0:
            return self.head_dim
        return int(self.head_dim * self.rope_fraction) // 2 * 2

    @property
    def context_limit(self) -> int | None:
        """Tokens that the model can hold; None where no layer attends, so that nothing bounds it."""
        return self.max_seq_len

    @property
    def num_sublayers(self) -> int:
        """Residual updates in the whole model."""
        return 2 * self.num_layers
