"""Models of the paper authors' released code, as `DdlTransformer`s: their parameter names, layouts and configuration.

The source is the PyTorch code beside arXiv 2601.00417. Its six models (additive, scalar, token and channel compression,
the latter two with and without the embedding convolution) are recognised by the names of their parameters. They are the
same functions as ours: `value_source` state, a value with a bias, and a channel compressor in two factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import DdlTransformer

_WITHOUT_EFFECT = {
    *(
        "model_type",
        "name",
        "architectures",
        "auto_map",
        "_name_or_path",
        "transformers_version",
        "dtype",
        "torch_dtype",
    ),
    *("use_cache", "return_dict", "is_decoder", "tie_word_embeddings", "id2label", "label2id"),
    *("kv_cache_slot_size", "attention_dtype", "ddl_sequence_reduction_version"),
    *("embedding_init_std", "hidden_init_std_factor", "ddl_beta_init", "ddl_state_read_init"),
}
"""What concerns the machinery around a model, and initial values."""

_TRANSLATED = {
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "block_size"),
    *("use_qk_rmsnorm", "rope_ratio", "rope_base", "intermediate_size", "rms_norm_eps"),
    *("ddl_value_channels", "ddl_state_shortconv_kernel_size", "input_embed_shortconv_kernel_size", "ddl_k_eps"),
    *("ddl_beta_hidden_size", "ddl_beta_single_linear", "ddl_v_sigmoid", "ddl_v_sigmoid_scale"),
    *("ddl_v_constant", "ddl_v_constant_value", "ddl_v_dim1_constant", "ddl_v_dim1_constant_value"),
}

_INACTIVE = (None, False, 0, "", "identity")


def model_from_released(config: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> DdlTransformer:
    """The model that the released code would build from `config` and `parameters`; it computes what theirs computes.

    Args:
        config: their configuration as a dictionary (the JSON of a checkpoint).
        parameters: tensors by their names, `transformer.h.0.attn.c_q.weight` and so on; a tied `lm_head.weight` may be
            among them.

    Raises:
        ConfigError: an option is active that changes the function in a way this library does not have; it is named.
        CheckpointError: a parameter is missing, left over, or of another shape.
    """
    parameters = {name: tensor for name, tensor in parameters.items() if not _is_tied_head(name, tensor, parameters)}
    model = DdlTransformer(_translate(config, parameters))
    ours = dict(model.named_parameters())
    unread = set(parameters)
    with torch.no_grad():
        for entry in _entries(model.config):
            missing = [name for name in entry.theirs if name not in parameters]
            if missing:
                raise CheckpointError(f"released parameters: {missing[0]} is missing")
            unread.difference_update(entry.theirs)
            if entry.ours is None:
                continue
            tensor = entry.join([parameters[name] for name in entry.theirs], model.config)
            target = ours.pop(entry.ours)
            if tensor.shape != target.shape:
                raise CheckpointError(
                    f"released parameters: {', '.join(entry.theirs)} do not fit the configuration: "
                    f"{tuple(tensor.shape)} instead of {tuple(target.shape)}"
                )
            target.copy_(tensor)
    assert not ours, f"parameters without a released name: {sorted(ours)}"
    if unread:
        raise CheckpointError(f"released parameters: {min(unread)} belongs to no part of this model")
    return model


def released_gradients(model: DdlTransformer) -> dict[str, Tensor]:
    """The gradients of such a model under the released code's names and in its layouts.

    A parameter that the loss does not reach (the value projection beside a constant value) has a gradient of zeros.
    Raises `ConfigError` for a model that the released code does not have.
    """
    ours = dict(model.named_parameters())
    gradients: dict[str, Tensor] = {}
    for entry in _entries(model.config):
        if entry.ours is None:
            gradients.update(zip(entry.theirs, _unused(entry.theirs, model), strict=True))
            continue
        if entry.ours not in ours:
            raise ConfigError(f"the released code has no model like this one: it lacks {entry.ours}")
        parameter = ours.pop(entry.ours)
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients.update(zip(entry.theirs, entry.split(gradient, model.config), strict=True))
    if ours:
        raise ConfigError(f"the released code has no model like this one: it has no {min(ours)}")
    return gradients


class _Entry(NamedTuple):
    """One of our parameters, its counterparts there, and the change of layout both ways."""

    ours: str | None
    theirs: tuple[str, ...]
    join: Callable[[list[Tensor], DdlConfig], Tensor]
    split: Callable[[Tensor, DdlConfig], list[Tensor]]


def _same(ours: str | None, theirs: str) -> _Entry:
    return _Entry(ours, (theirs,), lambda parts, _: parts[0], lambda whole, _: [whole])


def _stacked(ours: str, *theirs: str) -> _Entry:
    return _Entry(ours, theirs, lambda parts, _: torch.cat(parts), lambda whole, _: list(whole.chunk(len(theirs))))


def _conv(ours: str, theirs: str, *, middle: tuple[int, ...] = ()) -> _Entry:
    """Channels flattened feature-major, [D·V, (1,) S], against our [S, V, D]."""

    def join(parts: list[Tensor], config: DdlConfig) -> Tensor:
        return parts[0].reshape(config.d_model, config.d_value, -1).permute(2, 1, 0)

    def split(whole: Tensor, config: DdlConfig) -> list[Tensor]:
        return [whole.permute(2, 1, 0).reshape(config.d_model * config.d_value, *middle, -1)]

    return _Entry(ours, (theirs,), join, split)


def _entries(config: DdlConfig) -> Iterator[_Entry]:
    yield _same("embedding.weight", "transformer.wte.weight")
    yield _same("norm.weight", "ln_f.weight")
    if config.embed_conv:
        yield _conv("expand.weight", "input_embed.conv.weight", middle=(1,))
    yield from _compressor_entries(config, "readout", "readout")
    for layer in range(config.num_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        yield from _compressor_entries(config, f"{ours}.compress", f"{theirs}.compress")
        yield _same(f"{ours}.mixer.norm.weight", f"{theirs}.ln_1.weight")
        yield _same(f"{ours}.mlp.norm.weight", f"{theirs}.ln_2.weight")
        yield _stacked(
            f"{ours}.mixer.process.qkv.weight", *(f"{theirs}.attn.c_{part}.weight" for part in ("q", "k", "v"))
        )
        yield _same(f"{ours}.mixer.process.out.weight", f"{theirs}.attn.c_proj.weight")
        if config.qk_norm:
            yield _same(f"{ours}.mixer.process.q_norm.weight", f"{theirs}.attn.q_rms.weight")
            yield _same(f"{ours}.mixer.process.k_norm.weight", f"{theirs}.attn.k_rms.weight")
        yield _stacked(f"{ours}.mlp.process.gate_up.weight", f"{theirs}.mlp.c_fc1.weight", f"{theirs}.mlp.c_fc2.weight")
        yield _same(f"{ours}.mlp.process.down.weight", f"{theirs}.mlp.c_proj.weight")
        if config.residual != "additive":
            yield from _stream_entries(config, f"{ours}.mixer.stream", f"{theirs}.ddl_attn")
            yield from _stream_entries(config, f"{ours}.mlp.stream", f"{theirs}.ddl_mlp")


def _compressor_entries(config: DdlConfig, ours: str, theirs: str) -> Iterator[_Entry]:
    if config.d_value == 1:
        return
    yield _same(f"{ours}.read", f"{theirs}.read")
    if config.compression == "token_conv":
        yield _conv(f"{ours}.kernel", f"{theirs}.shortconv.weight")
    else:
        yield _same(f"{ours}.kernel", f"{theirs}.weight")


def _stream_entries(config: DdlConfig, ours: str, theirs: str) -> Iterator[_Entry]:
    if config.beta_single_linear:
        yield _same(f"{ours}.gate.out.weight", f"{theirs}.beta.weight")
        yield _same(f"{ours}.gate.out.bias", f"{theirs}.beta.bias")
    else:
        yield _same(f"{ours}.gate.hidden.weight", f"{theirs}.beta_in.weight")
        yield _same(f"{ours}.gate.out.weight", f"{theirs}.beta_out.weight")
        yield _same(f"{ours}.gate.out.bias", f"{theirs}.beta_out.bias")
    used = config.value_constant is None
    yield _same(f"{ours}.value.proj.weight" if used else None, f"{theirs}.v_proj.weight")
    yield _same(f"{ours}.value.proj.bias" if used else None, f"{theirs}.v_proj.bias")


def _unused(names: tuple[str, ...], model: DdlTransformer) -> list[Tensor]:
    """Zeros for the value projection that stands idle beside a constant value."""
    V, D = model.config.d_value, model.config.d_model
    weight = model.embedding.weight
    return [weight.new_zeros((V, D) if name.endswith("weight") else (V,)) for name in names]


def _is_tied_head(name: str, tensor: Tensor, parameters: Mapping[str, Tensor]) -> bool:
    if name != "lm_head.weight":
        return False
    embedding = parameters.get("transformer.wte.weight")
    if embedding is not None and not torch.equal(tensor, embedding):
        raise CheckpointError(
            "released parameters: lm_head.weight differs from transformer.wte.weight, but they are tied"
        )
    return True


def _translate(config: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> DdlConfig:
    """Their configuration in our terms; which of the six models it is shows in the parameters' names."""
    for name, value in config.items():
        if name not in _WITHOUT_EFFECT | _TRANSLATED and value not in _INACTIVE:
            raise ConfigError(f"released configuration: option {name} = {value!r} is not supported")
    missing = [name for name in ("vocab_size", "hidden_size", "num_hidden_layers") if name not in config]
    if missing or "transformer.h.0.mlp.c_fc1.weight" not in parameters:
        raise ConfigError(f"released configuration: {(missing or ['transformer.h.0.mlp.c_fc1.weight'])[0]} is missing")
    is_delta = "transformer.h.0.ddl_attn.v_proj.weight" in parameters
    fields: dict[str, Any] = {
        "d_model": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config.get("num_attention_heads", 6),
        "head_dim": config.get("head_dim", 128),
        "vocab_size": config["vocab_size"],
        "max_seq_len": config.get("block_size", 1024),
        "mlp_hidden": parameters["transformer.h.0.mlp.c_fc1.weight"].shape[0],
        "rope_theta": float(config.get("rope_base", 10000.0)),
        "rope_fraction": float(config.get("rope_ratio", 1.0)),
        "qk_norm": config.get("use_qk_rmsnorm", True),
        "norm_eps": 1e-5 if is_delta else float(config.get("rms_norm_eps", 1e-5)),
        "residual": "delta" if is_delta else "additive",
    }
    return DdlConfig(**fields, **(_translate_delta(config, parameters) if is_delta else {}))


def _translate_delta(config: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    by_token = "readout.shortconv.weight" in parameters
    is_matrix = by_token or "readout.weight" in parameters
    constant = "ddl_v_constant" if is_matrix else "ddl_v_dim1_constant"
    fields: dict[str, Any] = {
        "value_source": "state",
        "value_bias": True,
        "k_eps": float(config.get("ddl_k_eps", 1e-5)),
        "beta_init": 1.0,
        "beta_single_linear": config.get("ddl_beta_single_linear", True),
        "beta_hidden": config.get("ddl_beta_hidden_size", 128),
    }
    if config.get(constant):
        fields["value_constant"] = float(config.get(f"{constant}_value", 2.0))
    elif config.get("ddl_v_sigmoid", True):
        fields["value_scale"] = float(config.get("ddl_v_sigmoid_scale", 4.0))
    if not is_matrix:
        return fields
    fields["d_value"] = config.get("ddl_value_channels", 4)
    fields["compression"] = "token_conv" if by_token else "channel_conv"
    fields["shortconv_kernel_size"] = parameters["readout.shortconv.weight" if by_token else "readout.weight"].shape[-1]
    fields["compressor_factored"] = not by_token
    if "input_embed.conv.weight" in parameters:
        fields["embed_conv"] = True
        fields["embed_conv_kernel_size"] = parameters["input_embed.conv.weight"].shape[-1]
    return fields
