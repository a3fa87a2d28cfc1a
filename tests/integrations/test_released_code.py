"""The released code's six models: their golden values, and a second writing of what they compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from deep_delta import DdlTransformer, variant_config
from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.integrations.released_code import model_from_released, released_gradients
from tests.integrations.released_oracle import draw_parameters, released_logits
from tests.tolerances import assert_gradients_close, relative_error

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
    assert_gradients_close(gradients, expected, 1e-4)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_oracle_of_the_other_models_meets_the_golden_values(path: Path) -> None:
    config, tensors = read_golden(path)
    parameters = {name: tensor.requires_grad_() for name, tensor in part(tensors, "param.").items()}
    logits = released_logits(config, parameters, tensors["input_ids"])
    assert relative_error(logits, tensors["logits"]) < 1e-5
    F.cross_entropy(logits.flatten(0, 1), tensors["labels"].flatten()).backward()
    found = {name: parameter.grad for name, parameter in parameters.items()}
    assert_gradients_close(found, part(tensors, "grad."), 1e-4)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_and_option_computes_what_theirs_computes(kind: str, option: str) -> None:
    config = BASE | OPTIONS[option]
    parameters = draw_parameters(config, kind, seed=len(kind) + len(option))
    generator = torch.Generator().manual_seed(5)
    ids, labels = torch.randint(0, 23, (2, 2, 11), generator=generator)
    model = model_from_released(config, parameters).double()
    parameters = {name: tensor.double().requires_grad_() for name, tensor in parameters.items()}
    logits = released_logits(config, parameters, ids)
    assert relative_error(model(ids), logits) < 1e-6  # rotary angles are fp32 in both
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    model.loss(ids, labels).backward()
    gradients = released_gradients(model)
    assert gradients.keys() == parameters.keys()
    for name, tensor in parameters.items():
        expected = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        assert relative_error(gradients[name], expected) < 1e-4, name


def test_a_tied_head_may_be_among_the_parameters() -> None:
    parameters = draw_parameters(BASE, "cc", seed=0)
    with_head = parameters | {"lm_head.weight": parameters["transformer.wte.weight"].clone()}
    ids = torch.arange(5).unsqueeze(0)
    assert torch.equal(model_from_released(BASE, with_head)(ids), model_from_released(BASE, parameters)(ids))
    with pytest.raises(CheckpointError, match="lm_head"):
        model_from_released(BASE, parameters | {"lm_head.weight": torch.zeros(23, 20)})


@pytest.mark.parametrize(
    "option",
    [
        {"use_output_gate": True},
        {"using_groupnorm": True},
        {"use_k_shift": True},
        {"v_activation": "relu"},
        {"ddl_state_dv_shortconv_causal": True},
        {"scale_attn_by_inverse_layer_idx": True},
        {"dropout": 0.1},
        {"bias": True},
        {"an_option_of_tomorrow": 3},
    ],
    ids=str,
)
def test_any_other_active_option_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        model_from_released(BASE | option, draw_parameters(BASE, "cc", seed=0))


def test_parameters_that_do_not_fit_are_named() -> None:
    parameters = draw_parameters(BASE, "tc", seed=0)
    name = "transformer.h.1.mlp.c_proj.weight"
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        model_from_released(BASE, {key: value for key, value in parameters.items() if key != name})
    with pytest.raises(CheckpointError, match=f"{name} do not fit"):
        model_from_released(BASE, parameters | {name: torch.zeros(20, 30)})
    with pytest.raises(CheckpointError, match=r"extra\.weight belongs to no part"):
        model_from_released(BASE, parameters | {"extra.weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match="hidden_size is missing"):
        model_from_released({k: v for k, v in BASE.items() if k != "hidden_size"}, parameters)


def test_a_model_they_do_not_have_has_no_released_gradients() -> None:
    model = DdlTransformer(variant_config("ddl-cc", d_model=16, num_layers=1, num_heads=2, vocab_size=9))
    with pytest.raises(ConfigError, match="has no model like this one"):
        released_gradients(model)
