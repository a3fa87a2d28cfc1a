"""What decoding carries: rows chosen by anything that indexes, copies that go on alone, passes that fail."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deep_delta import DdlConfig, DdlTransformer, DeltaNet, variant_config
from deep_delta.errors import ConfigError
from deep_delta.models.cache import DecodeCache
from deep_delta.nn.delta_net import MemoryCache
from tests.tolerances import relative_error

SIZES: dict[str, Any] = {"d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 19, "max_seq_len": 64}
CONFIGURATIONS: dict[str, DdlConfig] = {
    "ddl-ec": variant_config("ddl-ec", **SIZES),
    "hyper": DdlConfig(**SIZES, residual="hyper", d_value=3),
    "deltanet": variant_config("ddl-ec", **SIZES, mixer="deltanet"),
    "hybrid": variant_config("ddl-cc-ec", **SIZES, mixer="deltanet", attention_every=2),
}
IDS = torch.randint(0, 19, (4, 12), generator=torch.Generator().manual_seed(1))


def start(name: str) -> tuple[DdlTransformer, DecodeCache]:
    """A model, and its cache after the first six tokens of four rows."""
    torch.manual_seed(0)
    model = DdlTransformer(CONFIGURATIONS[name])
    cache = model.new_cache(4)
    with torch.no_grad():
        model(IDS[:, :5], cache=cache)
        model(IDS[:, 5:6], cache=cache)
    return model, cache


def go_on(model: DdlTransformer, cache: DecodeCache, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(token, cache=cache) for token in ids.split(1, 1)], 1)


ROWS: dict[str, Any] = {
    "a list": [2, 0],
    "a tuple": (2, 0),
    "a range": range(2, -1, -2),
    "a tensor": torch.tensor([2, 0]),
    "an int32 tensor": torch.tensor([2, 0], dtype=torch.int32),
    "an array": np.array([2, 0]),
    "negative numbers": [-2, 0],
    "truth values": torch.tensor([True, False, True, False]),
    "an array of truth values": np.array([True, False, True, False]),
    "a list of truth values": [True, False, True, False],
    "a slice": slice(0, 3, 2),
    "twice the same": torch.tensor([1, 1, 3]),
    "a number": 3,
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_rows_are_chosen_by_whatever_indexes_rows(name: str, rows: str) -> None:
    model, cache = start(name)
    chosen = torch.arange(4)[list(ROWS[rows]) if isinstance(ROWS[rows], range | tuple) else ROWS[rows]].view(-1)
    with torch.no_grad():
        expected = model(IDS[chosen])[:, 6:]
    assert relative_error(go_on(model, cache.select(ROWS[rows]), IDS[chosen, 6:]), expected) < 1e-5


@pytest.mark.parametrize("rows", [[], [4], [-5], torch.tensor([True]), torch.tensor([], dtype=torch.bool)], ids=str)
def test_rows_that_are_not_there_are_refused(rows: Any) -> None:
    _, cache = start("ddl-ec")
    with pytest.raises(ConfigError, match=r"at least one row|the cache has 4 rows"):
        cache.select(rows)


COPIES = {
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "select": lambda cache: cache.select(range(4)),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_copies_go_on_by_themselves_in_any_order(name: str, way: str) -> None:
    """As in a search that tries several continuations, turn by turn."""
    model, cache = start(name)
    others = [COPIES[way](cache) for _ in range(2)]
    texts = [IDS, IDS.flip(1), (IDS + 1) % 19]
    found: list[list[Tensor]] = [[], [], []]
    for t in range(6, 12):
        for outputs, one, text in zip(found, (cache, *others), texts, strict=True):
            outputs.append(go_on(model, one, text[:, t : t + 1]))
    for outputs, text in zip(found, texts, strict=True):
        whole = torch.cat((IDS[:, :6], text[:, 6:]), 1)
        with torch.no_grad():
            assert relative_error(torch.cat(outputs, 1), model(whole)[:, 6:]) < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_copy_that_was_kept_restores_what_was(name: str) -> None:
    model, cache = start(name)
    kept = copy.copy(cache)
    first = go_on(model, cache, IDS[:, 6:])
    go_on(model, cache, IDS[:, :2])
    assert torch.equal(go_on(model, kept, IDS[:, 6:]), first)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_was_appended_by_a_copy_that_is_gone_costs_no_memory_when_it_is_reclaimed(name: str) -> None:
    model, cache = start(name)
    expected = go_on(model, copy.copy(cache), IDS[:, 6:7])
    cache.reclaim()
    rooms = [getattr(layer.mixer, "_room", None) for layer in cache.layers]
    assert torch.equal(go_on(model, cache, IDS[:, 6:7]), expected)
    assert rooms == [getattr(layer.mixer, "_room", None) for layer in cache.layers]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_pass_that_fails_half_way_leaves_the_cache_as_it_was(name: str, place: int) -> None:
    model, cache = start(name)
    block = model.blocks[place // 2]
    part = (block.mixer, block.mlp)[place % 2]

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory, say")

    handle = part.register_forward_hook(fail)
    for piece in (IDS[:, 6:7], IDS[:, 6:9]):
        with pytest.raises(RuntimeError, match="out of memory, say"):
            go_on(model, cache, piece)
    handle.remove()
    assert cache.positions == [6] * 4
    with torch.no_grad():
        assert relative_error(go_on(model, cache, IDS[:, 6:]), model(IDS)[:, 6:]) < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_cache_of_inference_mode_is_continued_with_gradients(name: str) -> None:
    model, _ = start(name)
    losses = []
    for mode in (torch.inference_mode(), torch.no_grad()):
        cache = model.new_cache(4)
        with mode:
            model(IDS[:, :5], cache=cache)
            model(IDS[:, 5:6], cache=cache)
        model.zero_grad()
        model(IDS[:, 6:9], cache=cache).square().sum().backward()
        model(IDS[:, 9:10], cache=cache).square().sum().backward()
        losses.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    for one, other in zip(*losses, strict=True):
        assert relative_error(one, other, least=1e-3) < 1e-4


def test_a_layers_cache_of_inference_mode_is_continued_with_gradients() -> None:
    layer, cache, x = DeltaNet(8, num_heads=2), MemoryCache(), torch.randn(1, 6, 8)
    with torch.inference_mode():
        layer(x[:, :4], cache)
    layer(x[:, 4:5], cache).sum().backward()
    layer(x[:, 5:], cache).sum().backward()
    assert layer.qkv.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_cache_survives_a_file(name: str) -> None:
    model, cache = start(name)
    file = io.BytesIO()
    torch.save(cache, file)
    file.seek(0)
    restored = torch.load(file, weights_only=False)
    assert torch.equal(go_on(model, restored, IDS[:, 6:]), go_on(model, cache, IDS[:, 6:]))


def double_in_place(model: DdlTransformer, part: nn.Module, name: str) -> None:
    getattr(part, name).mul_(2)


def double_data(model: DdlTransformer, part: nn.Module, name: str) -> None:
    getattr(part, name).data = getattr(part, name).data * 2


def assign(model: DdlTransformer, part: nn.Module, name: str) -> None:
    setattr(part, name, nn.Parameter(getattr(part, name) * 2))


def load(model: DdlTransformer, part: nn.Module, name: str) -> None:
    model.load_state_dict({name: one * 1.5 for name, one in model.state_dict().items()})


def load_by_assignment(model: DdlTransformer, part: nn.Module, name: str) -> None:
    model.load_state_dict({name: one * 1.5 for name, one in model.state_dict().items()}, assign=True)


def hook(model: DdlTransformer, part: nn.Module, name: str) -> None:
    part.register_forward_hook(lambda module, inputs, out: out * 2)


def patch(model: DdlTransformer, part: nn.Module, name: str) -> None:
    forward = part.forward
    part.forward = lambda *args: forward(*args) * 2


def parametrise(model: DdlTransformer, part: nn.Module, name: str) -> None:
    parametrize.register_parametrization(part, name, nn.ReLU())


@pytest.mark.parametrize(
    "change", [double_in_place, double_data, assign, load, load_by_assignment, hook, patch, parametrise]
)
@pytest.mark.parametrize(
    ("slug", "part", "name"),
    [
        ("ddl-ec", "blocks.0.compress", "kernel"),
        ("ddl-cc", "blocks.1.compress", "weight"),
        ("ddl-cc", "readout", "weight"),
        ("ddl-cc", "blocks.1.mlp.norm", "weight"),
        ("ddl", "blocks.0.mlp.stream.gate.out", "weight"),
        ("ddl", "blocks.0.mlp.stream.value.proj", "weight"),
    ],
)
def test_what_changes_while_a_text_is_decoded_counts_from_then_on(
    slug: str, part: str, name: str, change: Callable[[DdlTransformer, nn.Module, str], None]
) -> None:
    torch.manual_seed(0)
    model = DdlTransformer(variant_config(slug, **SIZES))
    cache = model.new_cache(4)
    with torch.no_grad():
        model(IDS[:, :6], cache=cache)
        model(IDS[:, 6:7], cache=cache)
        cache = copy.copy(cache)
        before = model(IDS[:, 7:8], cache=copy.copy(cache))
        fresh = copy.deepcopy(cache)
        change(model, model.get_submodule(part), name)
        found = model(IDS[:, 7:8], cache=copy.copy(cache))
        assert not torch.equal(found, before)
        assert torch.equal(found, model(IDS[:, 7:8], cache=fresh))


def test_a_copy_of_a_cache_that_shares_nothing_has_no_part_of_the_model() -> None:
    model, cache = start("ddl-ec")
    model.is_no_part_of_it = torch.zeros(10**6)
    model.blocks[0].compress.is_no_part_of_it = torch.zeros(10**6)
    file = io.BytesIO()
    torch.save(copy.deepcopy(cache), file)
    assert file.tell() < 10**6
