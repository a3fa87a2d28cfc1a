"""Configurations refuse what cannot be, in one line; variants are data."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from deep_delta import VARIANTS, DdlConfig, DdlTransformer, TrainingConfig, variant_config
from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.models.variants import PAPER_NAMES, variant_of

GOOD: dict[str, Any] = {"d_model": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 29}


def test_the_table_of_variants() -> None:
    rows = {
        slug: (c.residual, c.d_value, c.compression if c.d_value > 1 else None, c.embed_conv)
        for slug in VARIANTS
        for c in [variant_config(slug, **GOOD)]
    }
    assert rows == {
        "baseline": ("additive", 1, None, False),
        "ddl": ("delta", 1, None, False),
        "ddl-tokenconv": ("delta", 4, "token_conv", False),
        "ddl-ec": ("delta", 4, "token_conv", True),
        "ddl-cc": ("delta", 4, "channel_conv", False),
        "ddl-cc-ec": ("delta", 4, "channel_conv", True),
    }
    assert tuple(PAPER_NAMES) == VARIANTS


def test_derived_widths() -> None:
    config = DdlConfig(**GOOD)
    assert (config.head_dim, config.mlp_hidden, config.num_sublayers, config.rotary_dim) == (8, 86, 4, 8)
    assert DdlConfig(**GOOD | {"head_dim": 6, "num_heads": 5}).head_dim == 6


def saved(config: DdlConfig) -> DdlConfig:
    return DdlConfig.from_json(config.to_json(), error=CheckpointError, where="x")


CHANGED: dict[str, Callable[[DdlConfig, dict[str, Any]], DdlConfig]] = {
    "a copy": lambda config, changes: config.model_copy(update=changes),
    "a deep copy": lambda config, changes: config.model_copy(update=changes, deep=True),
    "a copy of a copy": lambda config, changes: copy.deepcopy(copy.copy(config)).model_copy(update=changes),
    "a copy of what was saved": lambda config, changes: saved(config).model_copy(update=changes),
    "a dump": lambda config, changes: DdlConfig(**config.model_dump() | changes),
    "a dump of what was set": lambda config, changes: DdlConfig(**config.model_dump(exclude_unset=True) | changes),
    "a dump of what was saved": lambda config, changes: DdlConfig(**saved(config).model_dump() | changes),
    "the dump of a variant": lambda config, changes: variant_config("ddl-cc-ec", **config.model_dump() | changes),
    "JSON": lambda config, changes: DdlConfig(**json.loads(config.to_json()) | changes),
}


@pytest.mark.parametrize("way", CHANGED)
def test_widths_that_were_derived_follow_a_change_and_widths_that_were_set_stay(way: str) -> None:
    change = CHANGED[way]
    config = variant_config("ddl-cc-ec", **GOOD)
    wider = change(config, {"d_model": 64})
    assert wider == variant_config("ddl-cc-ec", **GOOD | {"d_model": 64})
    assert (wider.head_dim, wider.mlp_hidden) == (16, 171)
    assert change(config, {"num_heads": 2}).head_dim == 16
    chosen = change(config, {"head_dim": 6, "mlp_hidden": 50})
    assert (change(chosen, {"d_model": 64}).head_dim, change(chosen, {"d_model": 64}).mlp_hidden) == (6, 50)
    assert change(chosen, {"head_dim": None, "mlp_hidden": None}) == config
    with pytest.raises(ConfigError, match="d_model must be divisible by num_heads, got 63 and 4"):
        change(config, {"d_model": 63})
    with pytest.raises(ConfigError, match="unknown field 'd_modle'"):
        change(config, {"d_modle": 64})


def test_records_that_hold_what_was_derived_are_read() -> None:
    config = DdlConfig(**GOOD)
    filled = {**config.model_dump(), "head_dim": 8, "mlp_hidden": 86}
    for read in (DdlConfig(**filled), DdlConfig.from_json(json.dumps(filled), error=CheckpointError, where="x")):
        assert read == config
        assert hash(read) == hash(config)
        assert (read.head_dim, read.mlp_hidden) == (8, 86)
        assert read.model_copy(update={"d_model": 64}).head_dim == 8  # whoever wrote 8 may have meant it
    assert (config.model_dump()["head_dim"], config.model_dump()["mlp_hidden"]) == (None, None)
    assert config.model_dump().keys() == DdlConfig.model_fields.keys()


def test_a_changed_training_configuration_is_checked_too() -> None:
    training = TrainingConfig(learning_rate=1e-3)
    assert training.model_copy(update={"min_learning_rate": 1e-4}).min_learning_rate == 1e-4
    with pytest.raises(ConfigError, match="min_learning_rate must not exceed learning_rate"):
        training.model_copy(update={"min_learning_rate": 1.0})


def test_it_answers_tools_that_ask_as_if_it_were_a_dictionary() -> None:
    model = DdlTransformer(variant_config("ddl-cc", **GOOD))
    config = model.config
    assert hasattr(config, "to_dict")  # so peft asks for a dictionary, and then for some of what is in it
    fields = config.to_dict()
    assert type(fields) is dict
    assert fields.get("tie_word_embeddings", False) is False
    assert (fields["model_type"], fields.get("head_dim"), fields["mlp_hidden"]) == ("deep_delta", 8, 86)
    assert json.loads(json.dumps(fields)) == fields
    del fields["model_type"]
    assert DdlConfig(**fields) == config


def test_defaults_are_the_specified_ones() -> None:
    config, training = DdlConfig(**GOOD), TrainingConfig()
    assert (config.beta_init, config.k_eps, config.norm_eps, config.max_seq_len) == (0.5, 1e-6, 1e-5, 128)
    assert (config.mapping, config.value_source, config.value_scale, config.value_bias) == (
        "k_map",
        "context",
        None,
        False,
    )
    assert (config.rope_theta, config.qk_norm, config.tie_embeddings) == (10000.0, True, True)
    assert (training.max_steps, training.eval_interval, training.learning_rate) == (32, 4, 1e-3)
    assert (training.min_learning_rate, training.warmup_steps, training.weight_decay) == (0.0, 0, 0.1)
    assert (training.beta1, training.beta2, training.epsilon, training.grad_clip) == (0.9, 0.95, 1e-5, 1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_model": 100, "num_heads": 3}, "d_model must be divisible by num_heads, got 100 and 3"),
        ({"d_model": 0}, "d_model"),
        ({"d_model": -4}, "d_model"),
        ({"d_model": 10**30}, "d_model"),
        ({"d_model": 2**24}, "d_model 16777216 makes mlp_hidden 44739243, more than 16777216"),
        ({"d_model": 32.0}, "d_model"),
        ({"d_model": True, "num_heads": 1}, "d_model"),
        ({"d_model": "32"}, "d_model"),
        ({"d_model": None}, "d_model"),
        ({"num_layers": 0}, "num_layers"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"beta_init": 0.0}, "beta_init"),
        ({"beta_init": 2.0}, "beta_init"),
        ({"beta_init": float("nan")}, "beta_init"),
        ({"k_eps": float("inf")}, "k_eps"),
        ({"norm_eps": 0.0}, "norm_eps"),
        ({"residual": "subtractive"}, "residual"),
        ({"residual": "additive", "d_value": 4}, "one value channel"),
        ({"embed_conv": True}, "embed_conv"),
        ({"value_constant": 1.0, "mapping": "v_map"}, "value_constant"),
        ({"compressor_causal": True}, "compressor_causal pads the kernel of compressor_factored; set both, or neither"),
        ({"value_scale": float("nan")}, "value_scale"),
        ({"value_scale": 1e39}, "value_scale"),
        ({"k_eps": -1e-6}, "k_eps"),
        ({"d_value": 0}, "d_value"),
        ({"shortconv_kernel_size": 0}, "shortconv_kernel_size"),
        (
            {"residual": "hyper", "state_storage": "rebuilt"},
            "residual hyper mixes its streams, which state_storage rebuilt cannot undo; use stored",
        ),
        ({"residual": "hyper", "mapping": "v_map"}, "no direction, value or gate for mapping to shape; leave it out"),
        ({"residual": "hyper", "beta_init": 0.7}, "no direction, value or gate for beta_init to shape"),
        ({"d_modle": 3}, "unknown field 'd_modle'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        DdlConfig(**GOOD | fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("slug", "fields", "message"),
    [
        ("ddl-xl", {}, "unknown variant 'ddl-xl'; the variants are baseline, ddl,"),
        ("ddl", {"d_value": 4}, "variant ddl has d_value 1, got 4"),
        ("ddl-cc", {"d_value": 1}, "needs d_value > 1"),
        ("baseline", {"residual": "write_only"}, "variant baseline has residual additive, got 'write_only'"),
        ("baseline", {"residual": "hyper"}, "variant baseline has residual additive, got 'hyper'"),
        ("ddl", {"residual": "hyper", "d_value": 4}, "variant ddl has d_value 1, got 4"),
        ("ddl", {"residual": "additive"}, "variant ddl rewrites its state, so its residual is not additive"),
        ("ddl-cc", {"compression": "token_conv"}, "variant ddl-cc has compression channel_conv"),
        ("ddl-ec", {"embed_conv": False}, "variant ddl-ec has embed_conv True"),
    ],
    ids=str,
)
def test_a_variant_cannot_contradict_itself(slug: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        variant_config(slug, **GOOD | fields)


def test_a_configuration_tells_its_variant() -> None:
    for slug in VARIANTS:
        config = variant_config(slug, **GOOD)
        assert variant_of(config) == variant_of(config.model_copy(update={"max_seq_len": 5})) == slug
        if slug != "baseline":
            assert variant_of(variant_config(slug, **GOOD, residual="write_only")) == slug
    assert variant_of(variant_config("ddl-cc", **GOOD, d_value=2)) == "ddl-cc"


@pytest.mark.parametrize(
    "fields",
    [
        {"value_scale": -2.0},
        {"value_scale": 0.0},
        {"value_scale": 1e30},
        {"value_constant": -1e30},
        {"k_eps": 0.0},
        {"k_eps": 40.0},
        {"norm_eps": 2.0},
        {"rope_theta": 1e30},
        {"d_value": 65},
        {"d_value": 2, "shortconv_kernel_size": 65, "embed_conv": True, "embed_conv_kernel_size": 100},
    ],
    ids=str,
)
def test_unusual_values_that_can_be_computed_are_accepted(fields: dict[str, Any]) -> None:
    model = DdlTransformer(DdlConfig(**GOOD, **fields))
    assert model(torch.arange(12).view(2, 6)).isfinite().all()


def test_hyper_connections_take_the_streams_of_the_variant() -> None:
    found = {slug: variant_config(slug, **GOOD, residual="hyper") for slug in VARIANTS if slug != "baseline"}
    assert {slug: (c.residual, c.d_value) for slug, c in found.items()} == {
        slug: ("hyper", 1 if slug == "ddl" else 4) for slug in found
    }
    assert variant_config("ddl-cc", **GOOD, residual="hyper", d_value=2).d_value == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"max_steps": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": -1.0},
        {"beta2": 1.0},
        {"min_learning_rate": 1.0},
        {"precision": "fp8"},
        {"seed": -1},
        {"batch_size": 1.5},
        {"grad_clip": float("inf")},
    ],
    ids=str,
)
def test_bad_training_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        TrainingConfig(**fields)


def test_configurations_survive_a_file_and_files_are_read_strictly() -> None:
    config = variant_config("ddl-cc-ec", **GOOD)
    assert DdlConfig.from_json(config.to_json(), error=CheckpointError, where="x") == config
    for text in (
        '{"max_steps": true}',
        '{"max_steps": 1, "max_steps": 2}',
        '{"learning_rate": NaN}',
        '{"learning_rate": 1e400}',
        '{"max_steps": 3.0}',
        '{"max_stepz": 3}',
        "[" * 100_000,
        "",
        "3",
    ):
        with pytest.raises(CheckpointError, match="manifest"):
            TrainingConfig.from_json(text, error=CheckpointError, where="manifest.json")
