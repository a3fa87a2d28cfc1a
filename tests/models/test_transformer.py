"""The one model: every variant and every option of it reads causally, decodes as it reads, learns and compiles."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deep_delta import VARIANTS, DdlConfig, DdlTransformer, variant_config
from deep_delta.errors import ConfigError, DataError
from deep_delta.models.cache import DecodeCache
from deep_delta.nn.attention import KeyValueCache
from deep_delta.nn.branches import ValueHead
from deep_delta.nn.residual import Rewrite
from tests.tolerances import assert_gradients_close, relative_error

SMALL: dict[str, Any] = {"d_model": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 29, "max_seq_len": 24}

OPTIONS: dict[str, dict[str, Any]] = {
    "write-only": {"residual": "write_only", "d_value": 3},
    "write-only with one channel": {"residual": "write_only"},
    "v_map": {"mapping": "v_map", "d_value": 2, "compression": "channel_conv"},
    "v_map with one channel": {"mapping": "v_map"},
    "value from the state, bounded": {"value_source": "state", "value_scale": 4.0, "value_bias": True, "d_value": 2},
    "value from the branch": {"value_source": "branch", "d_value": 5},
    "constant value": {"value_constant": 2.0, "d_value": 2},
    "two-layer gate": {"beta_single_linear": False, "beta_hidden": 5},
    "factored channel convolution": {"compression": "channel_conv", "compressor_factored": True, "d_value": 4},
    "random compressors": {"compressor_init": "random", "d_value": 4},
    "one tap": {"shortconv_kernel_size": 1, "embed_conv": True, "embed_conv_kernel_size": 1, "d_value": 4},
    "many taps": {"shortconv_kernel_size": 9, "embed_conv": True, "embed_conv_kernel_size": 30, "d_value": 2},
    "no norm on q and k, untied": {"qk_norm": False, "tie_embeddings": False},
    "half of each head rotated": {"rope_fraction": 0.5},
    "hyper-connections": {"residual": "hyper", "d_value": 4},
    "hyper-connections of one stream": {"residual": "hyper"},
    "hyper-connections of an expanded embedding": {"residual": "hyper", "d_value": 3, "embed_conv": True},
    "other widths": {"head_dim": 6, "mlp_hidden": 17},
}


MIXERS: dict[str, dict[str, Any]] = {
    "deltanet": {"mixer": "deltanet", "chunk_size": 8, "max_seq_len": 2},
    "hybrid": {"mixer": "deltanet", "attention_every": 2, "neg_eigval": True, "output_gate": True},
}
"""Beside attention; a DeltaNet does not mind a small max_seq_len."""


def configurations() -> dict[str, DdlConfig]:
    """Every option, and every mixer with every residual and compression."""
    streams = {slug: variant_config(slug, **SMALL) for slug in VARIANTS}
    streams |= {name: DdlConfig(**SMALL, **fields) for name, fields in OPTIONS.items()}
    mixed = {
        f"{mixer}, {name}": DdlConfig(**{**config.model_dump(), **fields})
        for mixer, fields in MIXERS.items()
        for name, config in streams.items()
        if not {"head_dim", "qk_norm", "rope_fraction"} & OPTIONS.get(name, {}).keys()
    }
    return streams | mixed | {"deltanet of odd heads": DdlConfig(**SMALL | ODD_HEADS)}


ODD_HEADS = {"mixer": "deltanet", "head_dim": 5, "mixer_conv_size": 1}


CONFIGURATIONS = configurations()


def build(config: DdlConfig, seed: int = 0) -> DdlTransformer:
    """A model whose convolutions and hyper-connections do something: their identity start would hide mistakes."""
    torch.manual_seed(seed)
    model = DdlTransformer(config)
    for name, parameter in model.named_parameters():
        if name.startswith(("expand.", "readout.")) or ".compress." in name or ".dynamic." in name:
            nn.init.normal_(parameter, std=0.5)
    return model


def draw_ids(batch: int = 2, length: int = 24) -> Tensor:
    return torch.randint(0, 29, (batch, length), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_logits_do_not_change_by_a_bit_when_a_later_token_does(name: str) -> None:
    model, ids = build(CONFIGURATIONS[name]), draw_ids()
    logits = model(ids)
    for t in (0, 4, 22):
        changed = ids.clone()
        changed[:, t + 1] = (changed[:, t + 1] + 1) % 29
        other = model(changed)
        assert torch.equal(other[:, : t + 1], logits[:, : t + 1])
        assert not torch.equal(other[:, t + 1], logits[:, t + 1])


@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_cached_decoding_equals_the_full_forward(name: str) -> None:
    model, ids = build(CONFIGURATIONS[name]), draw_ids()
    for pieces in ([1] * 24, [24], [7, 1, 1, 2, 13], [23, 1]):
        cache = model.new_cache(2)
        outputs = [model(piece, cache=cache) for piece in ids.split(pieces, dim=1)]
        assert cache.position == 24
        assert relative_error(torch.cat(outputs, 1), model(ids)) < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_cache_carries_no_gradients_from_call_to_call(name: str) -> None:
    model, ids = build(CONFIGURATIONS[name]), draw_ids()
    cache, leaves = model.new_cache(2), dict(model.named_parameters())
    with torch.no_grad():
        model(ids[:, :9], cache=cache)
    alone = copy.deepcopy(cache)
    model(ids[:, 9:17], cache=cache).square().mean().backward()
    model(ids[:, 17:18], cache=cache)
    with torch.no_grad():
        model(ids[:, 9:18], cache=alone)
    after, expected = (
        torch.autograd.grad(model(ids[:, 18:], cache=one).square().sum(), list(leaves.values()), materialize_grads=True)
        for one in (cache, alone)
    )
    assert_gradients_close(dict(zip(leaves, after, strict=True)), dict(zip(leaves, expected, strict=True)), 1e-3)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_an_id_that_is_unknown_is_not_counted(name: str) -> None:
    model, ids = build(CONFIGURATIONS[name]), draw_ids()
    cache = model.new_cache(2)
    model(ids[:, :9], cache=cache)
    with pytest.raises(DataError, match=r"id 1000000 at \[0, 0\] is not in the vocabulary of 29 tokens"):
        model(torch.full((2, 3), 10**6), cache=cache)
    assert cache.position == 9
    assert relative_error(model(ids[:, 9:], cache=cache), model(ids)[:, 9:]) < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_cache_of_inference_mode_is_read_on_without_it(name: str) -> None:
    model, ids = build(CONFIGURATIONS[name]), draw_ids()
    cache = model.new_cache(2)
    with torch.inference_mode():
        for piece in ids[:, :10].split([9, 1], dim=1):
            model(piece, cache=cache)
    with torch.no_grad():
        assert relative_error(model(ids[:, 10:11], cache=cache), model(ids)[:, 10:11]) < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_parameter_gets_a_gradient_and_all_of_them_are_finite(name: str) -> None:
    model, ids = build(CONFIGURATIONS[name]), draw_ids()
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_the_first_rewrite_breaks_the_symmetry_between_value_channels() -> None:
    """Tied rows of W_v would leave the channels identical for ever."""
    torch.manual_seed(0)
    model, states = DdlTransformer(variant_config("ddl-cc", **SMALL)), []

    def observe(sublayer: int, state: Tensor, rewrite: Rewrite) -> None:
        states.append(state)

    model(draw_ids(), observe=observe)
    assert torch.equal(states[0][:, :, 0], states[0][:, :, 1])
    for one, other in itertools.combinations(range(4), 2):
        assert (states[1][:, :, one] - states[1][:, :, other]).abs().max() > 1e-3


@pytest.mark.parametrize("slug", VARIANTS)
def test_observing_sees_every_rewrite_and_changes_nothing(slug: str) -> None:
    model, ids, seen = build(variant_config(slug, **SMALL)), draw_ids(), []
    expected = model(ids)
    observed = model(ids, observe=lambda sublayer, state, rewrite: seen.append((sublayer, state.shape, rewrite)))
    assert torch.equal(observed, expected)
    assert [sublayer for sublayer, _, _ in seen] == [0, 1, 2, 3]
    V = model.config.d_value
    assert all(shape == (2, 24, V, 32) for _, shape, _ in seen)
    if slug == "baseline":
        assert all(rewrite.beta is None for _, _, rewrite in seen)
    else:
        assert all(rewrite.beta.shape == (2, 24, 1) and rewrite.value.shape == (2, 24, V) for _, _, rewrite in seen)


def test_initial_spreads_are_the_released_codes() -> None:
    torch.manual_seed(0)
    config = variant_config("ddl-ec", d_model=256, num_layers=4, num_heads=4, vocab_size=2000)
    model, std = DdlTransformer(config), 0.5 / 16
    block = model.blocks[0]
    for weight, expected in (
        (model.embedding.weight, 0.02),
        (block.mixer.process.qkv.weight, std),
        (block.mlp.process.gate_up.weight, std),
        (block.mixer.process.out.weight, std / 2),
        (block.mlp.process.down.weight, std / 2),
    ):
        assert abs(weight.std().item() / expected - 1) < 0.02
    value = block.mixer.stream.value
    assert isinstance(value, ValueHead)
    assert torch.linalg.matrix_rank(value.proj.weight) == 4


def test_tied_embeddings_are_one_parameter() -> None:
    tied, untied = (DdlTransformer(DdlConfig(**SMALL, tie_embeddings=tie)) for tie in (True, False))
    assert untied.num_parameters() - tied.num_parameters() == 29 * 32
    assert "head.weight" not in tied.state_dict()


@pytest.mark.parametrize("mixer", ["attention", "deltanet"])
@pytest.mark.parametrize("slug", VARIANTS)
def test_bf16_autocast_keeps_the_state_narrow_and_stays_near(
    slug: str, mixer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids, dtypes = build(variant_config(slug, **SMALL, mixer=mixer)), draw_ids(), set()
    exact = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids, observe=lambda sublayer, state, rewrite: dtypes.add(state.dtype))
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
        plain = model(ids)
    assert dtypes == {torch.bfloat16}
    assert loss.dtype == torch.float32
    assert (logits - exact).norm() < 1.2 * (plain - exact).norm() < 0.1 * exact.norm()
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("mixer", ["attention", "deltanet"])
@pytest.mark.parametrize("slug", VARIANTS)
def test_the_whole_model_compiles_into_one_graph(slug: str, mixer: str) -> None:
    torch.compiler.reset()
    model, ids = build(variant_config(slug, **SMALL | {"num_layers": 1, "mixer": mixer})), draw_ids()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert relative_error(compiled(ids), model(ids)) < 1e-5


def test_ids_that_do_not_fit_are_refused() -> None:
    model = build(variant_config("ddl", **SMALL))
    with pytest.raises(ConfigError, match="25 tokens are more than max_seq_len 24"):
        model(torch.zeros(1, 25, dtype=torch.int64))
    with pytest.raises(DataError, match="at least one token"):
        model(torch.zeros(1, 0, dtype=torch.int64))
    with pytest.raises(DataError, match=r"ids must be \[B, T\]"):
        model(torch.zeros(3, dtype=torch.int64))
    cache = model.new_cache(1)
    model(torch.zeros(1, 20, dtype=torch.int64), cache=cache)
    with pytest.raises(ConfigError, match=r"20 \+ 5 tokens are more than max_seq_len 24"):
        model(torch.zeros(1, 5, dtype=torch.int64), cache=cache)
    with pytest.raises(ConfigError, match="a batch of 1, got ids for 2"):
        model(torch.zeros(2, 1, dtype=torch.int64), cache=cache)
    assert cache.position == 20


STARTS = (5, 1, 12, 5, 9)


def decode_alone(model: DdlTransformer, ids: Tensor) -> tuple[list[DecodeCache], Tensor]:
    """A cache a row, after the row's first tokens; and the logits of every row's next six tokens."""
    caches, logits = [], []
    for row, start in zip(ids.split(1), STARTS, strict=True):
        cache = model.new_cache(1)
        model(row[:, :start], cache=cache)
        caches.append(DecodeCache.stack([cache]))
        logits.append(torch.cat([model(token, cache=cache) for token in row[:, start : start + 6].split(1, 1)], 1))
    return caches, torch.cat(logits)


def following(ids: Tensor, offset: int, count: int = 1) -> Tensor:
    return torch.stack([row[start + offset :][:count] for row, start in zip(ids, STARTS, strict=True)])


@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_rows_of_different_lengths_decode_together_as_alone(name: str) -> None:
    model, ids = build(CONFIGURATIONS[name]), draw_ids(len(STARTS))
    caches, expected = decode_alone(model, ids)
    cache = DecodeCache.stack([DecodeCache.stack(caches[:2]), caches[2], DecodeCache.stack(caches[3:])])
    assert cache.positions == list(STARTS)
    found = [model(following(ids, 0), cache=cache), model(following(ids, 1, 2), cache=cache)]
    assert relative_error(torch.cat(found, 1), expected[:, :3]) < 1e-5
    rows = [4, 0, 3]  # without the longest: places that nobody uses are dropped
    cache = cache.select(rows)
    assert cache.position == 12
    for offset in range(3, 6):
        assert relative_error(model(following(ids, offset)[rows], cache=cache)[:, 0], expected[rows, offset]) < 1e-5
    assert all(layer.mixer.length == 15 for layer in cache.layers if isinstance(layer.mixer, KeyValueCache))


@torch.no_grad()
def test_rows_of_one_length_share_their_positions() -> None:
    model, ids = build(CONFIGURATIONS["ddl-ec"]), draw_ids(2)
    caches = [model.new_cache(1) for _ in range(2)]
    for row, one in zip(ids[:, :9].split(1), caches, strict=True):
        model(row, cache=one)
    cache = DecodeCache.stack(caches)
    assert all(layer.mixer.starts is None for layer in cache.layers)
    assert relative_error(model(ids[:, 9:], cache=cache), model(ids)[:, 9:]) < 1e-5


@torch.no_grad()
def test_a_row_of_a_stack_that_is_full_is_refused_and_nothing_is_counted() -> None:
    model, ids = build(CONFIGURATIONS["ddl"]), draw_ids(1)
    caches = [model.new_cache(1), model.new_cache(1)]
    model(ids, cache=caches[0])
    model(ids[:, :3], cache=caches[1])
    cache = DecodeCache.stack(caches)
    with pytest.raises(ConfigError, match=r"24 \+ 1 tokens are more than max_seq_len 24"):
        model(ids[:, :1].expand(2, 1), cache=cache)
    assert cache.positions == [24, 3]


def test_nothing_is_stacked_of_nothing() -> None:
    model = build(CONFIGURATIONS["ddl"])
    for caches in ([], [model.new_cache(1)]):
        with pytest.raises(ConfigError, match="at least one token"):
            DecodeCache.stack(caches)
    with pytest.raises(ConfigError, match="at least one row"):
        model.new_cache(1).select([])


@torch.no_grad()
def test_rows_of_a_cache_that_has_read_nothing_begin_a_text() -> None:
    model, ids = build(CONFIGURATIONS["ddl-ec"]), draw_ids(2)
    cache = model.new_cache(3).select([2, 0])
    assert cache.positions == [0, 0]
    assert relative_error(model(ids, cache=cache), model(ids)) < 1e-5


@pytest.mark.parametrize("slug", VARIANTS)
@torch.no_grad()
def test_the_next_tokens_logits_are_the_last(slug: str) -> None:
    model, ids = build(variant_config(slug, **SMALL)), draw_ids()
    assert relative_error(model.next_logits(ids), model(ids)[:, -1]) < 1e-6
    cache = model.new_cache(2)
    assert relative_error(model.next_logits(ids, cache), model(ids)[:, -1]) < 1e-6
    assert cache.position == 24
