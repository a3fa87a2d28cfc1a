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
from tests.integrations.released_oracle import BASE, THEIRS, WIDTHS, draw_parameters, released_logits
from tests.tolerances import assert_gradients_close, relative_error

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("official_*.safetensors"))
KINDS = ["baseline", "scalar", "tc", "tc-ec", "cc", "cc-ec"]

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


def test_a_model_whose_parts_were_replaced_is_refused() -> None:
    model = DdlTransformer(variant_config("baseline", **WIDTHS))
    model.blocks[0].mlp.process.down = nn.Linear(43, 16)
    with pytest.raises(ConfigError, match=r"it has no blocks\.0\.mlp\.process\.down\.bias"):
        released_parameters(model)


@pytest.fixture(scope="module")
def before() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Their parameters, and those of the model that they make."""
    parameters = draw_parameters(BASE, "cc-ec", seed=0)
    return parameters, model_from_released(BASE, parameters).state_dict()


@pytest.mark.usefixtures("others_defaults")
def test_the_default_dtype_and_device_of_a_program_change_nothing(before: tuple[dict[str, Tensor], dict[str, Tensor]]):
    parameters, expected = before
    for name, tensor in model_from_released(BASE, parameters).state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name])
