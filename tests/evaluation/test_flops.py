from __future__ import annotations

import os
from typing import Any
from unittest import mock

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deep_delta.evaluation.flops import flops_per_token
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import VARIANTS, variant_config

B, T = 2, 24


def config_of(variant: str, **fields: Any) -> DdlConfig:
    sizes = {"d_model": 48, "num_layers": 3, "num_heads": 4, "vocab_size": 100, "max_seq_len": T}
    return variant_config(variant, **{**sizes, **fields})


def counted(config: DdlConfig, *, backward: bool = False) -> float:
    """Operations per token in matrix products, as PyTorch counts them."""
    model = DdlTransformer(config)
    ids = torch.randint(config.vocab_size, (B, T))
    plain = mock.patch.dict(os.environ, DEEP_DELTA_BACKEND="reference")
    with plain, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = model.loss(ids, ids)
        if backward:
            loss.backward()
    return counter.get_total_flops() / (B * T)


@pytest.mark.parametrize("fields", [{}, {"head_dim": 8}, {"tie_embeddings": False}, {"mlp_hidden": 50}], ids=str)
def test_the_baseline_is_what_pytorch_counts(fields: dict[str, Any]):
    config = config_of("baseline", **fields)
    flops = flops_per_token(config, T)
    assert flops.projections + flops.mixing + flops.head == counted(config)
    assert flops.generators == 0


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "baseline"])
@pytest.mark.parametrize(
    "fields", [{}, {"mapping": "v_map"}, {"beta_single_linear": False}, {"value_constant": 1.0}], ids=str
)
def test_every_matrix_of_the_generators_is_counted(variant: str, fields: dict[str, Any]):
    """PyTorch counts matrix products only: what it sees of a variant is all but the stream."""
    config = config_of(variant, **fields)
    flops = flops_per_token(config, T)
    assert flops.projections + flops.mixing + flops.generators + flops.head == counted(config)


def test_training_is_three_times_the_forward_pass():
    config = config_of("baseline")
    assert flops_per_token(config, T).training == pytest.approx(counted(config, backward=True), rel=0.15)


def test_the_stream_by_hand():
    sizes = {"d_value": 4, "shortconv_kernel_size": 3, "embed_conv_kernel_size": 2}
    cells, updates = 48 * 4, 6
    assert flops_per_token(config_of("baseline"), T).stream == updates * 48
    assert flops_per_token(config_of("ddl"), T).stream == updates * 4 * 48
    assert flops_per_token(config_of("ddl-cc", **sizes), T).stream == (updates * 4 + 7 * 2) * cells
    assert flops_per_token(config_of("ddl-tokenconv", **sizes), T).stream == (updates * 4 + 7 * 6) * cells
    assert flops_per_token(config_of("ddl-ec", **sizes), T).stream == (updates * 4 + 7 * 6 + 4) * cells
    assert flops_per_token(config_of("ddl-cc", residual="write_only"), T).stream == (updates * 2 + 7 * 2) * cells


@pytest.mark.parametrize("fields", [{}, {"d_value": 3}, {"compression": "token_conv"}], ids=str)
def test_hyper_connections_are_counted(fields: dict[str, Any]):
    """Their coefficients and their mixing are matrix products; the write, the last sum and the convolution are not."""
    config = DdlConfig(**{**config_of("ddl-cc", residual="hyper").model_dump(), **fields, "embed_conv": True})
    flops = flops_per_token(config, T)
    cells, updates = 48 * config.d_value, 6
    products = updates * 2 * cells * (config.d_value + 1)
    assert flops.projections + flops.mixing + flops.generators + products + flops.head == counted(config)
    assert flops.stream == products + updates * 2 * cells + cells - 48 + 2 * 4 * cells


def test_attention_grows_with_the_context_and_nothing_else_does():
    short, long = flops_per_token(config_of("ddl-cc"), 10), flops_per_token(config_of("ddl-cc"), 20)
    assert long.mixing == 2 * short.mixing
    assert long.forward - long.mixing == short.forward - short.mixing


@pytest.mark.parametrize("fields", [{}, {"output_gate": True}, {"attention_every": 2}, {"head_dim": 8}], ids=str)
def test_every_matrix_of_a_deltanet_is_counted(fields: dict[str, Any]):
    """PyTorch sees its products; the memory's three passes and the convolutions are counted by hand."""
    config = config_of("baseline", mixer="deltanet", **fields)
    flops, inner = flops_per_token(config, T), 4 * config.head_dim
    rewriting = config.mixers.count("deltanet")
    attention = (3 - rewriting) * 4 * T * inner
    assert flops.projections + attention + flops.head == counted(config)
    assert flops.mixing - attention == rewriting * (3 * 2 * inner * config.head_dim + 3 * 2 * inner * 4)


def test_a_deltanet_costs_the_same_at_any_length():
    config = config_of("ddl-cc", mixer="deltanet")
    assert flops_per_token(config, 10) == flops_per_token(config, 100_000)
