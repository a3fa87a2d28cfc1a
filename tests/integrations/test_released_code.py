"""The released code's six models: their golden values, and a second writing of what they compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from deep_delta import DdlTransformer, variant_config
from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.integrations.released_code import (
    model_from_released,
    released_config,
    released_gradients,
    released_parameters,
)
from tests.integrations.released_oracle import draw_parameters, released_logits
from tests.tolerances import relative_error

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("official_*.safetensors"))
KINDS = ["baseline", "scalar", "tc", "tc-ec", "cc", "cc-ec"]

BASE: dict[str, Any] = {
    "vocab_size": 23,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 20,
    "head_dim": 8,
    "block_size": 11,
    "intermediate_size": 31,
    "use_qk_rmsnorm": True,
    "rope_ratio": 1.0,
    "ddl_value_channels": 3,
    "ddl_state_shortconv_kernel_size": 3,
    "input_embed_shortconv_kernel_size": 2,
    "ddl_k_eps": 1e-5,
    "ddl_beta_hidden_size": 9,
    "ddl_beta_single_linear": True,
    "ddl_v_sigmoid": True,
    "ddl_v_sigmoid_scale": 4.0,
    "ddl_beta_init": 0.0,
}

OPTIONS: dict[str, dict[str, Any]] = {
    "as released": {},
    "two-layer gate": {"ddl_beta_single_linear": False},
    "plain value": {"ddl_v_sigmoid": False},
    "other scale and eps": {"ddl_v_sigmoid_scale": 2.5, "ddl_k_eps": 0.3},
    "constant value": {"ddl_v_constant": True, "ddl_v_dim1_constant": True, "ddl_v_constant_value": 1.5}
    | {"ddl_v_dim1_constant_value": -0.5},
    "half of each head rotated, no norm on q and k": {"rope_ratio": 0.6, "use_qk_rmsnorm": False},
    "nothing rotated": {"rope_ratio": 0.0},
    "five channels, two taps": {"ddl_value_channels": 5, "ddl_state_shortconv_kernel_size": 2},
    "one tap": {"ddl_state_shortconv_kernel_size": 1, "input_embed_shortconv_kernel_size": 1},
    "more taps than tokens": {"ddl_value_channels": 8, "input_embed_shortconv_kernel_size": 16},
    "other eps of the baseline": {"rms_norm_eps": 1e-2},
    "no eps at all": {"rms_norm_eps": 0.0, "ddl_k_eps": 0.0},
    "a large eps": {"rms_norm_eps": 30, "ddl_k_eps": 7},
    "a negative eps": {"ddl_k_eps": -0.3},
    "a negative scale": {"ddl_v_sigmoid_scale": -1.5},
    "no scale": {"ddl_v_sigmoid_scale": 0},
    "a constant beyond a million": {"ddl_v_constant": True, "ddl_v_dim1_constant": True, "ddl_v_constant_value": -2e7}
    | {"ddl_v_dim1_constant_value": 5e6},
    "other rotary base": {"rope_base": 300},
    "a rotary base beyond 1e12": {"rope_base": 3e13},
    "odd heads": {"head_dim": 7},
    "odd heads, half rotated": {"head_dim": 9, "rope_ratio": 0.5},
    "heads of one": {"head_dim": 1, "num_attention_heads": 3},
    "many channels and long kernels": {"ddl_value_channels": 66, "ddl_state_shortconv_kernel_size": 66}
    | {"input_embed_shortconv_kernel_size": 65},
    "a causal compressor": {"ddl_state_dv_shortconv_causal": True},
    "a causal compressor of many taps": {"ddl_state_dv_shortconv_causal": True, "ddl_value_channels": 5}
    | {"ddl_state_shortconv_kernel_size": 5, "ddl_k_eps": 0.1},
}


def read_golden(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["config"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_logits_loss_and_every_gradient(path: Path) -> None:
    config, tensors = read_golden(path)
    model = model_from_released(config, part(tensors, "param."))
    ids, labels = tensors["input_ids"], tensors["labels"]
    assert relative_error(model(ids), tensors["logits"]) < 1e-5
    loss = model.loss(ids, labels)
    assert relative_error(loss.reshape(1), tensors["loss"]) < 1e-5
    loss.backward()
    gradients, expected = released_gradients(model), part(tensors, "grad.")
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert relative_error(gradients[name], gradient) < 1e-4, name


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_oracle_of_the_other_models_meets_the_golden_values(path: Path) -> None:
    config, tensors = read_golden(path)
    parameters = {name: tensor.requires_grad_() for name, tensor in part(tensors, "param.").items()}
    logits = released_logits(config, parameters, tensors["input_ids"])
    assert relative_error(logits, tensors["logits"]) < 1e-5
    F.cross_entropy(logits.flatten(0, 1), tensors["labels"].flatten()).backward()
    for name, gradient in part(tensors, "grad.").items():
        assert relative_error(parameters[name].grad, gradient) < 1e-4, name


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", [*KINDS, "cc accelerated", "cc-ec accelerated"])
def test_every_model_and_option_computes_what_theirs_computes(kind: str, option: str) -> None:
    kind, _, code = kind.partition(" ")
    config = BASE | OPTIONS[option]
    parameters = draw_parameters(config, kind, seed=len(kind) + len(option))
    generator = torch.Generator().manual_seed(5)
    ids, labels = torch.randint(0, 23, (2, 2, 11), generator=generator)
    if code and config.get("ddl_v_constant"):  # their file refuses it too
        with pytest.raises(ConfigError, match="ddl_v_constant = True: the accelerated file has no constant value"):
            model_from_released(config, parameters, code="accelerated")
        return
    model = model_from_released(config, parameters, code=code or None).double()
    parameters = {name: tensor.double().requires_grad_() for name, tensor in parameters.items()}
    logits = released_logits(config, parameters, ids, accelerated=code == "accelerated")
    assert relative_error(model(ids), logits) < 1e-6  # rotary angles are fp32 in both
    expected_loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    expected_loss.backward()
    loss = model.loss(ids, labels)
    assert relative_error(loss, expected_loss) < 1e-6
    loss.backward()
    gradients = released_gradients(model)
    assert gradients.keys() == parameters.keys()
    for name, tensor in parameters.items():
        expected = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        assert relative_error(gradients[name], expected) < 1e-4, name


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "baseline"])
def test_a_scale_beyond_a_million(kind: str) -> None:
    config = BASE | {"ddl_v_sigmoid_scale": -3e6}
    parameters = draw_parameters(config, kind, seed=0)
    for name, tensor in parameters.items():
        if name.endswith("v_proj.weight"):
            tensor.mul_(1e-7)  # else all values are at one end of the sigmoid
    ids = torch.arange(11).unsqueeze(0)
    model = model_from_released(config, parameters).double()
    expected = released_logits(config, {name: tensor.double() for name, tensor in parameters.items()}, ids)
    assert relative_error(model(ids), expected) < 1e-6


AUTO_MAPS: dict[str, tuple[Any, bool]] = {
    "none": (None, False),
    "empty": ({}, False),
    "the plain file": ({"AutoModelForCausalLM": "DDL-gpt-mha-rope-CC-EC.GPT"}, False),
    "the accelerated file": ({"AutoModelForCausalLM": "DDL-gpt-mha-rope-CC-EC-accelerated.GPT"}, True),
    "in a repository": ({"AutoModel": "someone/models--DDL_gpt_mha_rope_CC_EC_accelerated.GPT"}, True),
    "the configuration's alone": ({"AutoConfig": "DDL-gpt-mha-rope-CC-EC-accelerated.GPTConfig"}, True),
    "the model's, which counts": (
        {"AutoConfig": "x-accelerated.GPTConfig", "AutoModelForCausalLM": "DDL-gpt-mha-rope-CC-EC.GPT"},
        False,
    ),
    "a repository's name, which does not": ({"AutoModel": "me/accelerated--DDL-gpt-mha-rope-CC-EC.GPT"}, False),
}


@pytest.mark.parametrize("case", AUTO_MAPS)
def test_auto_map_names_the_file_and_an_argument_wins(case: str) -> None:
    auto_map, accelerated = AUTO_MAPS[case]
    config = BASE | {"ddl_v_sigmoid": False, "auto_map": auto_map}
    parameters = draw_parameters(config, "cc-ec", seed=0)
    ids = torch.arange(11).unsqueeze(0)
    found = model_from_released(config, parameters)(ids)
    assert relative_error(found, released_logits(config, parameters, ids, accelerated=accelerated)) < 1e-4
    assert relative_error(found, released_logits(config, parameters, ids, accelerated=not accelerated)) > 1e-2
    for code in ("plain", "accelerated"):
        chosen = model_from_released(config, parameters, code=code)(ids)
        assert torch.equal(chosen, found) is ((code == "accelerated") is accelerated)


def test_an_accelerated_file_of_another_model_is_refused() -> None:
    for kind in ("scalar", "tc", "tc-ec"):
        parameters = draw_parameters(BASE, kind, seed=0)
        with pytest.raises(ConfigError, match="compresses by channel"):
            model_from_released(BASE, parameters, code="accelerated")
    with pytest.raises(ConfigError, match="code must be plain or accelerated, got 'fast'"):
        model_from_released(BASE, draw_parameters(BASE, "cc", seed=0), code="fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="auto_map must map names to classes"):
        model_from_released(BASE | {"auto_map": "x.GPT"}, draw_parameters(BASE, "cc", seed=0))


NOTHING: dict[str, Any] = {
    **{"eos_token_id": 7, "bos_token_id": 1, "pad_token_id": [0, 1], "decoder_start_token_id": 3, "sep_token_id": 4},
    **{"output_hidden_states": True, "bias": True, "dropout": 0.1, "scale_attn_by_inverse_layer_idx": True},
    **{"ddl_state_dv_shortconv_causal": True, "hidden_size_base": 77, "mlp_hidden_mult": 4.5, "ddl_beta_init": 2},
    **{"architectures": ["GPT"], "auto_map": {"AutoModel": "a.GPT"}, "torch_dtype": "bfloat16", "dtype": "float32"},
    **{"transformers_version": "4.57.0", "model_type": "nanogpt-pro", "_name_or_path": "x", "use_cache": True},
    **{"tie_word_embeddings": True, "is_decoder": True, "id2label": {"0": "x"}, "ddl_state_read_init": 0.5},
    **{"max_length": 20, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "num_beams": 1, "return_dict": True},
    **{"pruned_heads": {}, "rope_scaling": None, "quantization_config": None, "using_groupnorm": False},
    **{"q_activation": "identity", "use_k_shift": 0, "custom_pipelines": {}, "initializer_range": 0.02},
    **{"mup": False, "block_size": 99},
}


@pytest.mark.parametrize("name", NOTHING)
def test_keys_that_change_nothing_are_accepted(name: str) -> None:
    ids = torch.arange(11).unsqueeze(0)
    for kind in ("baseline", "cc-ec"):
        parameters = draw_parameters(BASE, kind, seed=0)
        without = model_from_released(BASE, parameters)
        assert torch.equal(model_from_released(BASE | {name: NOTHING[name]}, parameters)(ids), without(ids))


def test_mup_at_its_base_width_scales_nothing() -> None:
    config, parameters = BASE | {"mup": True}, draw_parameters(BASE, "cc", seed=0)
    same = model_from_released(config | {"hidden_size_base": 20}, parameters)
    assert same.config == model_from_released(BASE, parameters).config
    for options, scale in (({"hidden_size_base": 40}, "40 / 20"), ({}, "1024 / 20")):
        with pytest.raises(ConfigError, match=rf"mup = True is not supported: .* = {scale}"):
            model_from_released(config | options, parameters)


def test_sequences_longer_than_block_size_are_read_where_asked_for() -> None:
    parameters = draw_parameters(BASE, "cc-ec", seed=0)
    ids = torch.arange(20).unsqueeze(0)
    model = model_from_released(BASE, parameters, max_seq_len=20)
    assert relative_error(model(ids), released_logits(BASE, parameters, ids)) < 1e-4
    assert model_from_released(BASE, parameters).config.max_seq_len == 11


def test_loading_draws_no_random_numbers() -> None:
    parameters = draw_parameters(BASE, "cc-ec", seed=0)
    before = torch.get_rng_state()
    model_from_released(BASE, parameters)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tied_head_may_be_among_the_parameters() -> None:
    parameters = draw_parameters(BASE, "cc", seed=0)
    with_head = parameters | {"lm_head.weight": parameters["transformer.wte.weight"].clone()}
    ids = torch.arange(5).unsqueeze(0)
    assert torch.equal(model_from_released(BASE, with_head)(ids), model_from_released(BASE, parameters)(ids))
    with pytest.raises(CheckpointError, match="lm_head"):
        model_from_released(BASE, parameters | {"lm_head.weight": torch.zeros(23, 20)})
    del with_head["transformer.wte.weight"]  # of two names for one matrix, some writers keep the head's
    assert torch.equal(model_from_released(BASE, with_head)(ids), model_from_released(BASE, parameters)(ids))


@pytest.mark.parametrize(
    "option",
    [
        {"use_output_gate": True},
        {"using_groupnorm": True},
        {"use_k_shift": True},
        {"v_activation": "relu"},
        {"use_v_shift": True},
        {"quantization_config": {"bits": 4}},
        {"an_option_of_tomorrow": 3},
    ],
    ids=str,
)
def test_any_other_active_option_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        model_from_released(BASE | option, draw_parameters(BASE, "cc", seed=0))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rope_ratio": 1.5}, "rope_ratio must be 0 to 1, got 1.5"),
        ({"rope_base": 0}, "rope_base must be positive, got 0"),
        ({"ddl_k_eps": float("nan")}, "ddl_k_eps must be a finite number, got nan"),
        ({"ddl_v_sigmoid_scale": "4"}, "ddl_v_sigmoid_scale must be a finite number, got '4'"),
        ({"ddl_v_sigmoid": "yes"}, "ddl_v_sigmoid must be true or false, got 'yes'"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number from 1, got 0"),
        ({"hidden_size": 20.0}, "hidden_size must be a whole number from 1, got 20.0"),
        ({"vocab_size": 10**30}, "vocab_size"),
        ({"ddl_value_channels": 1}, "ddl_value_channels = 1"),
    ],
    ids=str,
)
def test_values_that_cannot_be_are_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^released configuration: .*{problem}"):
        model_from_released(BASE | options, draw_parameters(BASE, "cc", seed=0))


def test_an_eps_of_the_baseline_below_zero_is_named() -> None:
    with pytest.raises(ConfigError, match="rms_norm_eps must be at least 0, got -1"):
        model_from_released(BASE | {"rms_norm_eps": -1}, draw_parameters(BASE, "baseline", seed=0))


def test_parameters_that_do_not_fit_are_named() -> None:
    parameters = draw_parameters(BASE, "tc", seed=0)
    name = "transformer.h.1.mlp.c_proj.weight"
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        model_from_released(BASE, {key: value for key, value in parameters.items() if key != name})
    with pytest.raises(CheckpointError, match=f"{name} do not fit"):
        model_from_released(BASE, parameters | {name: torch.zeros(20, 30)})
    with pytest.raises(CheckpointError, match=r"extra\.weight belongs to no part"):
        model_from_released(BASE, parameters | {"extra.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=f"{name} do not fit"):
        model_from_released(BASE, parameters | {name: parameters[name].long()})
    with pytest.raises(CheckpointError, match=r"shortconv\.weight must have 2 axes, none empty, got \[60, 1, 3\]"):
        model_from_released(BASE, parameters | {"readout.shortconv.weight": torch.zeros(60, 1, 3)})
    with pytest.raises(CheckpointError, match=r"h\.0\.mlp\.c_fc1\.weight is missing"):
        model_from_released(BASE, {})
    with pytest.raises(ConfigError, match="hidden_size is missing"):
        model_from_released({k: v for k, v in BASE.items() if k != "hidden_size"}, parameters)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", [*KINDS, "cc accelerated", "cc-ec accelerated"])
def test_what_was_loaded_is_written_back_equal_to_the_bit(kind: str, option: str) -> None:
    kind, _, code = kind.partition(" ")
    config = BASE | OPTIONS[option] | {"intermediate_size": 53}
    if code and config.get("ddl_v_constant"):
        return
    parameters = draw_parameters(config, kind, seed=0)
    model = model_from_released(config, parameters, code=code or None)
    written = released_parameters(model)
    assert written.keys() == parameters.keys()
    assert all(
        tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in written.values()
    )
    for name, tensor in parameters.items():
        idle = model.config.value_constant is not None and ".v_proj." in name
        assert torch.equal(written[name], torch.zeros_like(tensor) if idle else tensor), name
    again = model_from_released(json.loads(json.dumps(released_config(model))), written)
    assert again.config == model.config
    ids = torch.arange(11).unsqueeze(0)
    assert torch.equal(again(ids), model(ids))


def test_what_is_written_is_the_models_own_no_longer() -> None:
    model = model_from_released(BASE, draw_parameters(BASE, "cc-ec", seed=0))
    before = [parameter.clone() for parameter in model.parameters()]
    for tensor in released_parameters(model).values():
        tensor.zero_()
    assert all(map(torch.equal, before, model.parameters()))


WIDTHS: dict[str, Any] = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 9}
THEIRS: dict[str, Any] = {"value_source": "state", "value_bias": True, "mlp_hidden": 42}


@pytest.mark.parametrize(
    ("slug", "fields"),
    [
        ("baseline", {}),
        ("baseline", {"qk_norm": False, "qk_norm_eps": 1e-3, "norm_eps": 1e-4, "mlp_hidden": 7}),
        ("ddl", THEIRS | {"value_scale": 4.0}),
        ("ddl-ec", THEIRS),
        ("ddl-cc-ec", THEIRS | {"compressor_factored": True, "beta_single_linear": False}),
        ("ddl-cc", THEIRS | {"compressor_factored": True, "compressor_causal": True, "value_scale": 2.0}),
    ],
    ids=str,
)
def test_a_model_of_ours_that_they_have_is_written_and_read(slug: str, fields: dict[str, Any]) -> None:
    model = DdlTransformer(variant_config(slug, **WIDTHS | fields))
    again = model_from_released(released_config(model), released_parameters(model))
    ids = torch.arange(9).unsqueeze(0)
    assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize(
    ("slug", "fields", "problem"),
    [
        ("ddl-cc", {"residual": "hyper"}, "residual must be additive or delta, got hyper"),
        ("ddl", {"residual": "write_only"}, "residual must be"),
        ("baseline", {"mixer": "deltanet"}, "mixer must be attention, got deltanet"),
        ("baseline", {"mixer": "deltanet", "attention_every": 1}, None),
        ("baseline", {"tie_embeddings": False}, "tie_embeddings must be True, got False"),
        ("baseline", {"qk_norm_eps": 1e-6}, "qk_norm_eps must be 1e-05, got 1e-06"),
        ("ddl", {}, "value_source must be state, got context"),
        ("ddl", THEIRS | {"value_bias": False}, "value_bias must be True, got False"),
        ("ddl", THEIRS | {"mapping": "v_map"}, "mapping must be k_map, got v_map"),
        ("ddl", THEIRS | {"norm_eps": 1e-6}, "norm_eps must be 1e-05, got 1e-06"),
        ("ddl-cc-ec", THEIRS, "compressor_factored must be True, got False"),
    ],
    ids=str,
)
def test_a_model_they_do_not_have_is_refused_by_name(slug: str, fields: dict[str, Any], problem: str | None) -> None:
    model = DdlTransformer(variant_config(slug, **WIDTHS | fields))
    for write in (released_parameters, released_config, released_gradients):
        if problem is None:
            assert write(model)
            continue
        with pytest.raises(ConfigError, match=f"^the released code has no model like this one: {problem}"):
            write(model)


def test_a_configuration_they_cannot_say_is_refused_by_name() -> None:
    for fields, problem in (
        ({"mlp_hidden": 43}, r"mlp_hidden must be 42 = floor\(8·d_model/3\), got 43"),
        ({"compressor_causal": True}, "value_scale must be a number"),
    ):
        model = DdlTransformer(variant_config("ddl-cc", **WIDTHS | THEIRS | {"compressor_factored": True} | fields))
        with pytest.raises(ConfigError, match=problem):
            released_config(model)


def test_a_model_whose_parts_were_replaced_is_refused() -> None:
    model = DdlTransformer(variant_config("baseline", **WIDTHS))
    model.blocks[0].mlp.process.down = nn.Linear(43, 16)
    with pytest.raises(ConfigError, match=r"it has no blocks\.0\.mlp\.process\.down\.bias"):
        released_parameters(model)
