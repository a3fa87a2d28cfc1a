"""The configuration of the one transformer (and of every variant of it). Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FieldSerializationInfo, field_serializer, model_validator

from deep_delta.runs.record import Record

_LARGEST = 2**24

_FLOAT_MAX = 3.4028234663852886e38  # of fp32

Count = Annotated[int, Field(ge=1, le=_LARGEST)]
Taps = Annotated[int, Field(ge=1, le=2**16)]
Residual = Literal["additive", "delta", "write_only", "hyper"]
Mixer = Literal["attention", "deltanet"]
Compression = Literal["token_conv", "channel_conv"]
Mapping = Literal["k_map", "v_map"]
ValueSource = Literal["context", "state", "branch"]

_REWRITE_FIELDS = (
    *("mapping", "value_source", "value_scale", "value_bias", "value_constant"),
    *("beta_init", "beta_single_linear", "beta_hidden", "k_eps"),
)


_DERIVED = ("head_dim", "mlp_hidden")


class DdlConfig(Record):
    """Everything that shapes a `DdlTransformer`; validated, frozen, and saved with every checkpoint.

    `head_dim` and `mlp_hidden` follow from the other fields unless they are set, in changed copies too, and are None in
    `model_dump` then. Some values are there so that the parameters of the paper's released code load exactly
    (`deep_delta.integrations.released_code`).
    """

    d_model: Count = Field(description="width D of the model")
    num_layers: Count = Field(description="blocks; each has two sublayers, so 2·num_layers residual updates")
    num_heads: Count = Field(description="heads of every token mixer")
    vocab_size: Count = Field(description="tokens the embedding knows")
    d_value: Annotated[int, Field(ge=1, le=2**16)] = Field(
        1, description="value channels V of the state (paper: d_v); the streams of hyper, usually 4"
    )
    head_dim: Count = Field(None, description="width of one head; d_model / num_heads when unset")  # type: ignore[assignment]
    mlp_hidden: Count = Field(None, description="hidden width of SwiGLU; ceil(8·d_model/3) when unset")  # type: ignore[assignment]

    residual: Residual = Field("delta", description="how an output enters the state (hyper: by hyper-connections)")
    mixer: Mixer = Field("attention", description="what mixes tokens")
    attention_every: int | None = Field(None, ge=1, le=2**24, description="deltanet: every n-th layer attends (hybrid)")
    neg_eigval: bool = Field(False, description="deltanet: β in (0, 2) instead of (0, 1), so that a memory can reflect")
    output_gate: bool = Field(False, description="deltanet: gate its output by SiLU(W_g x)")
    mixer_conv_size: Taps = Field(4, description="deltanet: taps of its convolutions")
    chunk_size: Count = Field(64, description="deltanet: tokens worked on at once; changes the speed only")

    mapping: Mapping = Field("k_map", description="k_map: the sublayer gives the direction; v_map: it gives the value")
    value_source: ValueSource = Field("context", description="what W_v reads under k_map")
    value_scale: float | None = Field(
        None, ge=-_FLOAT_MAX, le=_FLOAT_MAX, description="s of the bounded value s·σ(·); unset: linear"
    )
    value_bias: bool = Field(False, description="a bias in W_v")
    value_constant: float | None = Field(
        None, ge=-_FLOAT_MAX, le=_FLOAT_MAX, description="a constant value instead of W_v"
    )

    beta_init: float = Field(0.5, gt=0, lt=2, description="gate β at the start, in (0, 2)")
    beta_single_linear: bool = Field(True, description="one linear layer for the gate; else two with tanh")
    beta_hidden: Count = Field(128, description="hidden width of the two-layer gate")
    k_eps: float = Field(1e-6, ge=0, le=_FLOAT_MAX, description="ε of the direction's normalisation")

    compression: Compression = Field(
        "token_conv", description="how the state is read if d_value > 1; without effect on hyper"
    )
    shortconv_kernel_size: Taps = Field(4, description="taps of token_conv over time")
    compressor_init: Literal["mean", "random"] = Field("mean", description="mean over channels, or as released")
    compressor_factored: bool = Field(False, description="channel_conv as the released code's two factors")
    compressor_causal: bool = Field(False, description="compressor_factored: pad its kernel on the left alone")
    embed_conv: bool = Field(False, description="expand the embedding by a causal convolution")
    embed_conv_kernel_size: Taps = Field(4, description="its taps over time")

    max_seq_len: Count = Field(128, description="longest sequence that attention holds; without attention no limit")
    rope_theta: float = Field(10000.0, gt=0, le=_FLOAT_MAX, description="base of the rotary frequencies")
    rope_fraction: float = Field(1.0, ge=0, le=1, description="share of each head that is rotated")
    qk_norm: bool = Field(True, description="learnable RMSNorm on q and k, after RoPE")
    norm_eps: float = Field(1e-5, gt=0, le=_FLOAT_MAX, description="ε of the RMSNorms before sublayers and output")
    qk_norm_eps: float = Field(1e-5, gt=0, le=_FLOAT_MAX, description="ε of the RMSNorms on q and k")
    tie_embeddings: bool = Field(True, description="one matrix for embedding and output")
    state_storage: Literal["stored", "rebuilt"] = Field(
        "stored", description="what the backward pass keeps of the state"
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_none(cls, fields: Any) -> Any:
        """None stands for a width that is to follow from others, as in `model_dump`."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None or name not in _DERIVED}

    @model_validator(mode="after")
    def _derive(self) -> Self:
        """Fill in the widths that follow from others. They count as unset, so that a copy derives its own."""
        if self.head_dim is None:
            if self.d_model % self.num_heads:
                raise ValueError(f"d_model must be divisible by num_heads, got {self.d_model} and {self.num_heads}")
            vars(self)["head_dim"] = self.d_model // self.num_heads
        if self.mlp_hidden is None:
            vars(self)["mlp_hidden"] = math.ceil(8 * self.d_model / 3)
            if self.mlp_hidden > _LARGEST:
                raise ValueError(f"d_model {self.d_model} makes mlp_hidden {self.mlp_hidden}, more than {_LARGEST}")
        return self

    @field_serializer(*_DERIVED)
    def _null_where_derived(self, width: int, field: FieldSerializationInfo) -> int | None:
        return width if field.field_name in self.model_fields_set else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.attention_every is not None and self.mixer != "deltanet":
            raise ValueError(f"attention_every makes a hybrid of mixer deltanet, got mixer {self.mixer}")
        if self.rotary_dim % 2 and "attention" in self.mixers:
            raise ValueError(f"head_dim must be even for rotary positions, got {self.head_dim}")
        if self.residual == "additive" and self.d_value != 1:
            raise ValueError(f"residual additive has one value channel, got d_value {self.d_value}")
        if self.embed_conv and self.d_value == 1:
            raise ValueError("embed_conv expands the embedding over value channels, so it needs d_value > 1")
        if self.compressor_causal and not self.compressor_factored:
            raise ValueError("compressor_causal pads the kernel of compressor_factored; set both, or neither")
        if self.residual == "hyper":
            self._admit_hyper()
        if self.value_constant is not None and self.mapping == "v_map":
            raise ValueError("value_constant leaves nothing for mapping v_map to learn; use k_map")
        return self

    def _admit_hyper(self) -> None:
        """Refuse what hyper-connections cannot do, and what was asked of gates and values that they do not have."""
        if self.state_storage == "rebuilt":
            raise ValueError("residual hyper mixes its streams, which state_storage rebuilt cannot undo; use stored")
        for name in _REWRITE_FIELDS:
            if getattr(self, name) != DdlConfig.model_fields[name].default:
                raise ValueError(f"residual hyper has no direction, value or gate for {name} to shape; leave it out")

    def to_dict(self) -> dict[str, Any]:
        """Every field with its value, derived widths too, and a `model_type`: what tools for transformers models (peft)
        ask of a model's `config`. `model_dump` is the form to build another configuration from."""
        return {"model_type": "deep_delta", **dict(self)}

    @property
    def rotary_dim(self) -> int:
        """How many features of each head are rotated."""
        if self.rope_fraction == 1.0:
            return self.head_dim
        return int(self.head_dim * self.rope_fraction) // 2 * 2

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """The token mixer of each layer."""
        every = self.attention_every
        attends = (every is not None and layer % every == 0 for layer in range(1, self.num_layers + 1))
        return tuple("attention" if attend else self.mixer for attend in attends)

    @property
    def context_limit(self) -> int | None:
        """Tokens that the model can hold; None where no layer attends, so that nothing bounds it."""
        return self.max_seq_len if "attention" in self.mixers else None

    @property
    def num_sublayers(self) -> int:
        """Residual updates in the whole model."""
        return 2 * self.num_layers
