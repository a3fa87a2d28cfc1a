"""Their options, file by file: what is followed, what changes nothing, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from deep_delta import DdlTransformer, variant_config
from deep_delta.errors import ConfigError
from deep_delta.integrations.released_code import model_from_released, released_config
from tests.integrations.released_oracle import BASE, THEIRS, WIDTHS, draw_parameters, released_logits
from tests.tolerances import relative_error

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


def test_a_configuration_they_cannot_say_is_refused_by_name() -> None:
    for fields, problem in (
        ({"mlp_hidden": 43}, r"mlp_hidden must be 42 = floor\(8·d_model/3\), got 43"),
        ({"compressor_causal": True}, "value_scale must be a number"),
    ):
        model = DdlTransformer(variant_config("ddl-cc", **WIDTHS | THEIRS | {"compressor_factored": True} | fields))
        with pytest.raises(ConfigError, match=problem):
            released_config(model)
