"""The released code's configuration in our terms and ours in theirs; what the other side does not have is refused.

Which of their six models it is shows in the parameters' names. Two files compute the models with channel compression:
the plain one, and an accelerated one that gives some options another meaning (see `CodeName`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor

from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.models.config import DdlConfig

CodeName = Literal["plain", "accelerated"]
"""Which of their files computes a model. Where the accelerated one differs from the plain one:

    ddl_v_sigmoid                   the value is always bounded, s·σ(W_v x + b)
    ddl_k_eps                       k / √(Σk² + D·ε²) instead of k / √(Σk² + ε²)
    ddl_state_dv_shortconv_causal   pads the compressor's kernel on the left alone; the plain file ignores it
"""

_ACCELERATED = "DDL-gpt-mha-rope-CC-EC-accelerated"

_TRANSLATED = {
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "block_size"),
    *("use_qk_rmsnorm", "rope_ratio", "rope_base", "intermediate_size", "rms_norm_eps", "auto_map"),
    *("ddl_value_channels", "ddl_state_shortconv_kernel_size", "input_embed_shortconv_kernel_size", "ddl_k_eps"),
    *("ddl_beta_hidden_size", "ddl_beta_single_linear", "ddl_v_sigmoid", "ddl_v_sigmoid_scale"),
    *("ddl_v_constant", "ddl_v_constant_value", "ddl_v_dim1_constant", "ddl_v_dim1_constant_value"),
    "ddl_state_dv_shortconv_causal",
}

_WITHOUT_EFFECT = {
    # of the files themselves: unused, initial values, or what the parameters' shapes tell
    *("bias", "dropout", "scale_attn_by_inverse_layer_idx", "mlp_hidden_mult", "name", "kv_cache_slot_size"),
    *("attention_dtype", "ddl_sequence_reduction_version"),
    *("embedding_init_std", "hidden_init_std_factor", "ddl_beta_init", "ddl_state_read_init", "initializer_range"),
    # of the machinery around a model
    *("model_type", "architectures", "_name_or_path", "name_or_path", "_commit_hash", "transformers_version"),
    *("dtype", "torch_dtype", "use_bfloat16", "torchscript", "use_cache", "return_dict", "tie_word_embeddings"),
    *("output_hidden_states", "output_attentions", "is_decoder", "is_encoder_decoder", "tie_encoder_decoder"),
    *("id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "finetuning_task"),
    *("tokenizer_class", "prefix", "tf_legacy_loss", "chunk_size_feed_forward", "gradient_checkpointing"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "_attn_implementation_autoset"),
    # of generation
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty"),
    *("temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"),
    *("encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores", "suppress_tokens"),
    *("return_dict_in_generate", "remove_invalid_values", "begin_suppress_tokens", "exponential_decay_length_penalty"),
}

_REASONS = {
    "using_groupnorm": "attention has no norm on its heads' outputs here",
    "use_output_gate": "attention has no output gate here",
    "use_k_shift": "keys are not mixed with the token before here",
    "use_v_shift": "values are not mixed with the token before here",
    "q_activation": "queries have no activation here",
    "k_activation": "keys have no activation here",
    "v_activation": "values have no activation here",
    "quantization_config": "quantised weights are not read",
}


def our_config(
    config: Mapping[str, Any], parameters: Mapping[str, Tensor], code: CodeName | None, max_seq_len: int | None
) -> DdlConfig:
    """Their configuration in our terms. ConfigError names an option that cannot be followed, and why."""
    if code is not None and code not in get_args(CodeName):
        raise ConfigError(f"code must be plain or accelerated, got {code!r}")
    options = _Options(config)
    _refuse_what_differs(config, options)
    is_delta = "transformer.h.0.ddl_attn.v_proj.weight" in parameters
    head_dim = options.whole("head_dim", 128)
    ratio = options.number("rope_ratio", 1.0, 0.0, 1.0)
    fields: dict[str, Any] = {
        "d_model": options.whole("hidden_size"),
        "num_layers": options.whole("num_hidden_layers"),
        "num_heads": options.whole("num_attention_heads", 6),
        "head_dim": head_dim,
        "vocab_size": options.whole("vocab_size"),
        "max_seq_len": options.whole("block_size", 1024) if max_seq_len is None else max_seq_len,
        "mlp_hidden": _shape(parameters, "transformer.h.0.mlp.c_fc1.weight", 2)[0],
        "rope_theta": options.number("rope_base", 10000.0, sys.float_info.min),
        # Of an odd head they rotate all features but one.
        "rope_fraction": 1.0 - 0.5 / head_dim if ratio == 1.0 and head_dim % 2 else ratio,
        "qk_norm": options.flag("use_qk_rmsnorm", default=True),
        "residual": "delta" if is_delta else "additive",
    }
    if is_delta:
        fields |= _delta_fields(options, parameters, code or _named_code(config))
    else:  # 0 is as good as the smallest float, which adds nothing to a mean square
        fields["norm_eps"] = options.number("rms_norm_eps", 1e-5, 0.0) or sys.float_info.min
    try:
        return DdlConfig(**fields)
    except ConfigError as error:
        raise ConfigError(f"released configuration: {error}") from None


def _delta_fields(options: _Options, parameters: Mapping[str, Tensor], code: CodeName) -> dict[str, Any]:
    by_token = "readout.shortconv.weight" in parameters
    is_matrix = by_token or "readout.weight" in parameters
    constant = "ddl_v_constant" if is_matrix else "ddl_v_dim1_constant"
    accelerated = code == "accelerated"
    if accelerated and (by_token or not is_matrix):
        raise ConfigError(
            "released configuration: the accelerated file that is known here compresses by channel, and these "
            "parameters are of another model; code='plain' reads them as the plain file does"
        )
    eps = abs(options.number("ddl_k_eps", 1e-5))
    fields: dict[str, Any] = {
        "value_source": "state",
        "value_bias": True,
        "k_eps": eps * math.sqrt(options.whole("hidden_size")) if accelerated else eps,
        "beta_init": 1.0,
        "beta_single_linear": options.flag("ddl_beta_single_linear", default=True),
    }
    if not fields["beta_single_linear"]:
        fields["beta_hidden"] = options.whole("ddl_beta_hidden_size", 128)
    if options.flag(constant, default=False):
        if accelerated:
            raise ConfigError(f"released configuration: {constant} = True: the accelerated file has no constant value")
        fields["value_constant"] = options.number(f"{constant}_value", 2.0)
    elif accelerated or options.flag("ddl_v_sigmoid", default=True):
        fields["value_scale"] = options.number("ddl_v_sigmoid_scale", 4.0)
    if not is_matrix:
        return fields
    fields["d_value"] = options.whole("ddl_value_channels", 4)
    if fields["d_value"] == 1:
        raise ConfigError("released configuration: ddl_value_channels = 1: their models that compress have more")
    fields["compression"] = "token_conv" if by_token else "channel_conv"
    kernel = "readout.shortconv.weight" if by_token else "readout.weight"
    fields["shortconv_kernel_size"] = _shape(parameters, kernel, 2)[1]
    fields["compressor_factored"] = not by_token
    fields["compressor_causal"] = accelerated and options.flag("ddl_state_dv_shortconv_causal", default=False)
    if "input_embed.conv.weight" in parameters:
        fields["embed_conv"] = True
        fields["embed_conv_kernel_size"] = _shape(parameters, "input_embed.conv.weight", 3)[2]
    return fields


def _refuse_what_differs(config: Mapping[str, Any], options: _Options) -> None:
    """ConfigError for an option that changes the function in a way that our model does not have."""
    known = _WITHOUT_EFFECT | _TRANSLATED | {"mup", "hidden_size_base"}
    for name, value in config.items():
        if name in known or name.endswith(("_token_id", "_token_ids")) or not value or value == "identity":
            continue
        reason = _REASONS.get(name, "what it changes is not known here; if nothing, leave it out")
        raise ConfigError(f"released configuration: option {name} = {value!r} is not supported: {reason}")
    if options.flag("mup", default=False):
        base, width = options.number("hidden_size_base", 1024), options.whole("hidden_size")
        if base != width:
            raise ConfigError(
                f"released configuration: option mup = True is not supported: it scales the logits by hidden_size_base "
                f"/ hidden_size = {base:g} / {width}, and they have no scale here"
            )


def _named_code(config: Mapping[str, Any]) -> CodeName:
    """What `auto_map` names, as in {"AutoModelForCausalLM": "user/repository--file.Class"}; else plain."""
    found = config.get("auto_map") or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"released configuration: auto_map must map names to classes, got {found!r}")
    of_model = {name: value for name, value in found.items() if name.startswith("AutoModel")} or found
    files = [str(value).rsplit("--", 1)[-1].lower() for value in of_model.values()]
    return "accelerated" if any("accelerated" in file for file in files) else "plain"


def _shape(parameters: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    """The shape of a parameter that tells a size. CheckpointError when it is missing or of another rank."""
    if name not in parameters:
        raise CheckpointError(f"released parameters: {name} is missing")
    shape = tuple(parameters[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise CheckpointError(f"released parameters: {name} must have {ndim} axes, none empty, got {list(shape)}")
    return shape


class _Options:
    """Their options by name; None stands for the default, as where they are missing."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def number(self, name: str, default: float, low: float = -math.inf, high: float = math.inf) -> float:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"released configuration: {name} must be a finite number, got {value!r}")
        if not low <= value <= high:
            bounds = f"{low:g} to {high:g}" if high < math.inf else "positive" if low > 0 else f"at least {low:g}"
            raise ConfigError(f"released configuration: {name} must be {bounds}, got {value!r}")
        return float(value)

    def whole(self, name: str, default: int | None = None) -> int:
        value = self._get(name, default)
        if value is None:
            raise ConfigError(f"released configuration: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"released configuration: {name} must be a whole number from 1, got {value!r}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._get(name, default)
        if not isinstance(value, int) or value not in (0, 1):
            raise ConfigError(f"released configuration: {name} must be true or false, got {value!r}")
        return bool(value)

    def _get(self, name: str, default: Any) -> Any:
        value = self._given.get(name)
        return default if value is None else value


_FORM = {"tie_embeddings": True}
_DELTA_FORM = {"mapping": "k_map", "value_source": "state", "norm_eps": 1e-5}


def require_form(config: DdlConfig) -> None:
    """ConfigError, naming the field, for a model whose parameters the released code does not have."""
    if config.residual not in ("additive", "delta"):
        _refuse("residual", config.residual, "additive or delta")
    if set(config.mixers) != {"attention"}:
        _refuse("mixer", config.mixer, "attention")
    wanted: dict[str, Any] = dict(_FORM)
    if config.qk_norm:
        wanted["qk_norm_eps"] = 1e-5
    if config.residual == "delta":
        wanted |= _DELTA_FORM
        if config.value_constant is None:
            wanted["value_bias"] = True
        if config.d_value > 1 and config.compression == "channel_conv":
            wanted["compressor_factored"] = True
    for name, value in wanted.items():
        if getattr(config, name) != value:
            _refuse(name, getattr(config, name), value)


def their_config(config: DdlConfig) -> dict[str, Any]:
    """Our configuration in their terms, from which `our_config` gives it back. ConfigError names what they lack.

    It is their plain file's, but for `compressor_causal`, which only the accelerated one has and `auto_map` names.
    """
    require_form(config)
    odd = config.head_dim % 2 and config.rotary_dim == config.head_dim - 1
    options: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "head_dim": config.head_dim,
        "block_size": config.max_seq_len,
        "use_qk_rmsnorm": config.qk_norm,
        "rope_ratio": 1.0 if odd else config.rope_fraction,
        "rope_base": config.rope_theta,
    }
    if config.residual == "additive":
        return options | {"intermediate_size": config.mlp_hidden, "rms_norm_eps": config.norm_eps}
    hidden = math.floor(8 / 3 * config.d_model)
    if config.mlp_hidden != hidden:
        _refuse("mlp_hidden", config.mlp_hidden, f"{hidden} = floor(8·d_model/3)")
    options |= {
        "ddl_k_eps": config.k_eps,
        "ddl_beta_single_linear": config.beta_single_linear,
        "ddl_beta_hidden_size": config.beta_hidden,
        "ddl_v_sigmoid": config.value_scale is not None,
    }
    if config.value_scale is not None:
        options["ddl_v_sigmoid_scale"] = config.value_scale
    if config.value_constant is not None:
        constant = "ddl_v_dim1_constant" if config.d_value == 1 else "ddl_v_constant"
        options |= {constant: True, f"{constant}_value": config.value_constant}
    if config.d_value == 1:
        return options | {"ddl_v_dim1_constant": config.value_constant is not None}
    options |= {
        "ddl_value_channels": config.d_value,
        "ddl_state_shortconv_kernel_size": config.shortconv_kernel_size,
    }
    if config.embed_conv:
        options["input_embed_shortconv_kernel_size"] = config.embed_conv_kernel_size
    if config.compression == "channel_conv" and config.compressor_causal:
        if config.value_scale is None:
            _refuse("value_scale", None, "a number, as it has compressor_causal")
        options |= {
            "ddl_state_dv_shortconv_causal": True,
            "ddl_k_eps": float(f"{config.k_eps / math.sqrt(config.d_model):.15g}"),
            "auto_map": {"AutoModelForCausalLM": f"{_ACCELERATED}.GPT"},
        }
    return options


def _refuse(name: str, value: object, wanted: object) -> None:
    raise ConfigError(f"the released code has no model like this one: {name} must be {wanted}, got {value}")
