"""The DeltaNet layer against its equations, written out token by token; its block and its model."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta import DeltaNet, DeltaNetBlock, DeltaNetModel, RMSNorm, SwiGLU, chunk_delta_rule
from deep_delta.errors import ConfigError, DeepDeltaError
from deep_delta.nn import delta_net
from deep_delta.nn.delta_net import MemoryCache
from tests.tolerances import relative_error

OPTIONS: list[dict[str, Any]] = [
    {},
    {"neg_eigval": True},
    {"output_gate": True},
    {"conv_size": 1},
    {"conv_size": 7, "head_dim": 5, "chunk_size": 1},
    {"chunk_size": 3, "neg_eigval": True, "output_gate": True, "norm_eps": 1e-2},
]


def definition(layer: DeltaNet, x_TD: Tensor) -> Tensor:
    """One sequence [T, D], head by head and token by token, from the weights alone."""
    H, K, taps = layer.num_heads, layer.head_dim, len(layer.conv.weight)
    projected = x_TD @ layer.qkv.weight.T
    outputs = []
    S = [x_TD.new_zeros(K, K)] * H
    for t in range(len(x_TD)):
        mixed = sum(layer.conv.weight[taps - 1 - age] * projected[t - age] for age in range(min(taps, t + 1)))
        q, k, v = (mixed / (1 + (-mixed).exp())).reshape(3, H, K)
        beta = (2.0 if layer.neg_eigval else 1.0) / (1 + (-(layer.beta.weight @ x_TD[t])).exp())
        rows = []
        for h in range(H):
            unit_q, unit_k = (y / (y.square().sum() + 1e-12).sqrt() for y in (q[h], k[h]))
            S[h] = S[h] - beta[h] * torch.outer(unit_k, unit_k @ S[h]) + beta[h] * torch.outer(unit_k, v[h])
            o = S[h].T @ unit_q / math.sqrt(K)
            rows.append(o / (o.square().mean() + layer.norm.eps).sqrt() * layer.norm.weight)
        row = torch.cat(rows)
        if layer.gate is not None:
            row = row * F.silu(layer.gate.weight @ x_TD[t])
        outputs.append(layer.out.weight @ row)
    return torch.stack(outputs)


def build(**options: Any) -> DeltaNet:
    torch.manual_seed(1)
    layer = DeltaNet(d_model=12, num_heads=3, **options).double()
    torch.nn.init.normal_(layer.norm.weight)
    return layer


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_layer_is_its_equations_and_so_are_its_gradients(options: dict[str, Any]) -> None:
    layer, x = build(**options), torch.randn(2, 9, 12, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([definition(layer, row) for row in x])
    assert relative_error(layer(x), expected) < 1e-12
    upstream, leaves = torch.randn_like(expected), [x, *layer.parameters()]
    for actual, wanted in zip(
        torch.autograd.grad(layer(x), leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        assert relative_error(actual, wanted) < 1e-11


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cuts", [[1] * 9, [4, 5], [2, 1, 1, 5], [9]], ids=str)
@torch.no_grad()
def test_a_cache_continues_where_it_was_and_stays_of_one_size(options: dict[str, Any], cuts: list[int]) -> None:
    layer, x, cache = build(**options), torch.randn(2, 9, 12, dtype=torch.float64), MemoryCache()
    pieces = [layer(piece, cache) for piece in x.split(cuts, dim=1)]
    assert relative_error(torch.cat(pieces, 1), layer(x)) < 1e-12
    assert cache.tensor is not None
    assert cache.tensor.shape == (2, 3, layer.head_dim, layer.head_dim)


def test_beta_reaches_two_with_neg_eigval_and_one_without() -> None:
    x = torch.zeros(1, 1, 12, dtype=torch.float64)
    x[..., 0] = 1.0
    for neg_eigval, largest in ((False, 1.0), (True, 2.0)):
        layer = build(neg_eigval=neg_eigval)
        torch.nn.init.constant_(layer.beta.weight, 30.0)
        assert layer._beta(x).allclose(torch.tensor(largest).double())


def test_the_call_forms_of_the_readme_run_as_written() -> None:
    model = DeltaNetModel(vocab_size=1000, dim=128, depth=2, num_heads=4)
    assert model(torch.randint(0, 1000, (2, 64))).shape == (2, 64, 1000)
    Q, K, V = torch.randn(3, 2, 8, 1024, 64)
    o = chunk_delta_rule(Q, K, V, torch.ones(2, 8, 1024), 16)
    assert isinstance(o, Tensor)
    assert o.isfinite().all()
    assert DeltaNet(d_model=128, chunk_size=64, num_heads=8)(torch.randn(2, 64, 128)).shape == (2, 64, 128)
    assert DeltaNetBlock(dim=128, num_heads=4, mlp_ratio=4.0)(torch.randn(2, 64, 128)).shape == (2, 64, 128)
    assert RMSNorm(128)(torch.randn(2, 128)).shape == SwiGLU(128, 512)(torch.randn(2, 128)).shape == (2, 128)


def test_a_block_adds_its_two_sublayers_and_the_model_is_made_of_such_blocks() -> None:
    torch.manual_seed(0)
    block, x = DeltaNetBlock(dim=16, num_heads=2, mlp_ratio=2.5), torch.randn(2, 5, 16)
    mixer, mlp = block.block.mixer, block.block.mlp
    assert mlp.process.down.in_features == 40
    middle = x + mixer.process(mixer.norm(x))
    assert torch.allclose(block(x), middle + mlp.process(mlp.norm(middle)), atol=1e-6)

    model = DeltaNetModel(vocab_size=11, dim=16, depth=2, num_heads=2)
    blocks = [DeltaNetBlock(dim=16, num_heads=2) for _ in range(2)]
    for single, of_model in zip(blocks, model.blocks, strict=True):
        single.block.load_state_dict(of_model.state_dict())
    ids = torch.randint(0, 11, (3, 7))
    hidden = model.norm(blocks[1](blocks[0](model.embedding(ids))))
    assert torch.allclose(model(ids), hidden @ model.embedding.weight.T, atol=1e-5)


def test_the_hidden_width_is_the_ratio_s_whatever_the_rounding() -> None:
    assert DeltaNetBlock(dim=100, num_heads=2, mlp_ratio=4.35).block.mlp.process.down.in_features == 435


def test_a_model_without_attention_has_no_limit_and_a_hybrid_has() -> None:
    model = DeltaNetModel(vocab_size=11, dim=16, depth=2, num_heads=2, max_seq_len=4)
    assert model(torch.randint(0, 11, (1, 300))).shape == (1, 300, 11)
    cache = model.new_cache(1)
    model(torch.randint(0, 11, (1, 300)), cache=cache)
    assert model(torch.randint(0, 11, (1, 1)), cache=cache).shape == (1, 1, 11)
    hybrid = DeltaNetModel(vocab_size=11, dim=16, depth=4, num_heads=2, max_seq_len=4, attention_every=2)
    assert hybrid.config.mixers == ("deltanet", "attention", "deltanet", "attention")
    with pytest.raises(ConfigError, match="5 tokens are more than max_seq_len 4"):
        hybrid(torch.randint(0, 11, (1, 5)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeltaNet(d_model=10, num_heads=3), "d_model must be divisible by num_heads, got 10 and 3"),
        (lambda: DeltaNet(d_model=8, chunk_size=0), "chunk_size must be at least 1, got 0"),
        (lambda: DeltaNet(d_model=8, head_dim=0), "head_dim must be at least 1, got 0"),
        (lambda: DeltaNet(d_model=8, conv_size=0), "conv_size must be at least 1, got 0"),
        (lambda: DeltaNet(d_model=0, num_heads=1), "d_model must be at least 1, got 0"),
        (lambda: DeltaNetBlock(dim=8, num_heads=2, mlp_ratio=0.0), "mlp_ratio must be above 0 .*, got 0.0"),
        (lambda: DeltaNetBlock(dim=8, num_heads=2, mlp_ratio=math.nan), "mlp_ratio must be above 0 .*, got nan"),
        (lambda: DeltaNetBlock(dim=8, num_heads=2, residual="delta", d_value=2), "d_value 1, got 2"),
        (lambda: DeltaNetBlock(dim=8, num_heads=2, mixer="attention"), "leave mixer and attention_every out"),
        (lambda: DeltaNetBlock(dim=8, num_heads=2, attention_every=1), "leave mixer and attention_every out"),
        (lambda: DeltaNetBlock(dim=8, num_heads=2, state_storage="rebuilt"), "leave state_storage out"),
        (lambda: DeltaNetModel(vocab_size=0, dim=8, depth=1, num_heads=2), "vocab_size"),
        (lambda: DeltaNetModel(vocab_size=5, dim=8, depth=1, num_heads=3), "divisible by num_heads, got 8 and 3"),
        (lambda: DeltaNetModel(vocab_size=5, dim=8, depth=1, num_heads=2, windows=3), "windows"),
        (lambda: DeltaNet(8, num_heads=2)(torch.randn(2, 0, 8)), r"x must be \[B, T, 8\] .* got \(2, 0, 8\)"),
        (lambda: DeltaNet(8, num_heads=2)(torch.randn(2, 3, 9)), r"x must be \[B, T, 8\] .* got \(2, 3, 9\)"),
        (lambda: DeltaNet(8, num_heads=2)(torch.randn(3, 8)), r"x must be \[B, T, 8\] .* got \(3, 8\)"),
        (lambda: DeltaNetBlock(8, num_heads=2)(torch.randn(3, 8)), r"x must be \[B, T, 8\] .* got \(3, 8\)"),
        (lambda: DeltaNetBlock(8, num_heads=2)(torch.randn(2, 3, 9)), r"x must be \[B, T, 8\] .* got \(2, 3, 9\)"),
        (lambda: DeltaNetBlock(8, num_heads=2)(torch.randn(0, 3, 8)), r"x must be \[B, T, 8\] .* got \(0, 3, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises((DeepDeltaError, ValueError), match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_cache_of_another_batch_is_refused() -> None:
    layer, cache = DeltaNet(8, num_heads=2), MemoryCache()
    layer(torch.randn(2, 3, 8), cache)
    with pytest.raises(ValueError, match="a batch of 2, got x for 3"):
        layer(torch.randn(3, 1, 8), cache)


@pytest.mark.parametrize("taps", [1, 4])
def test_a_run_of_zero_embeddings_has_no_gradient_that_multiplies_from_layer_to_layer(taps: int) -> None:
    """Where all features are zero, so are queries and keys, in every layer: no slope of 1/ε may multiply up."""
    torch.manual_seed(0)
    model = DeltaNetModel(9, 16, 3, 2, mixer_conv_size=taps)
    ids = torch.randint(1, 9, (2, 16))
    ids[0, 4:14] = 0
    with torch.no_grad():
        model.embedding.weight[0] = 0
    F.cross_entropy(model(ids).flatten(0, 1), ids.roll(-1, 1).flatten()).backward()
    assert 0 < model.embedding.weight.grad[0].norm() < 1e3


def test_a_short_key_keeps_its_outputs_and_a_usual_one_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for fade in (delta_net.FADE, 0.0):
        monkeypatch.setattr(delta_net, "FADE", fade)
        layer, x = build(), torch.randn(1, 9, 12, dtype=torch.float64, requires_grad=True)
        with torch.no_grad():
            x[0, 4:] *= 1e-12
        o = layer(x)
        found.append((o, *torch.autograd.grad(o[:, :4].sum(), x, retain_graph=True), *torch.autograd.grad(o.sum(), x)))
    (o, early, late), (same_o, same_early, steep) = found
    assert torch.equal(o, same_o)
    assert torch.equal(early, same_early)
    assert steep.abs().max() > 1e3 * late.abs().max()


def test_its_epsilon_can_be_that_of_other_libraries() -> None:
    """1e-6 under the root is eps = 1e-3: told apart where keys are short, in decoding too."""
    layer, x = build(conv_size=1, eps=1e-3), 1e-2 * torch.randn(1, 6, 12, dtype=torch.float64)
    q, k, v = (
        y.unflatten(-1, (3, -1)).transpose(1, 2) for y in F.silu(layer.conv.weight[0] * layer.qkv(x)).chunk(3, -1)
    )
    unit_q, unit_k = (y * (y.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for y in (q, k))
    o, _ = chunk_delta_rule(unit_q, unit_k, v, layer.beta(x).sigmoid().mT, normalize=False, output_final_state=True)
    expected = layer.out(layer.norm(o.transpose(1, 2)).flatten(2))
    assert relative_error(layer(x), expected) < 1e-12
    cache = MemoryCache()
    assert relative_error(torch.cat([layer(x[:, t : t + 1], cache) for t in range(6)], 1), expected) < 1e-12
    assert relative_error(build(conv_size=1)(x), expected) > 1e-3
    for eps in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="eps must be finite and at least 0"):
            DeltaNet(12, num_heads=3, eps=eps)


@torch.no_grad()
def test_a_layer_exported_on_a_short_text_reads_long_ones() -> None:
    layer = DeltaNet(8, num_heads=2).eval()
    sizes = {0: torch.export.Dim("B"), 1: torch.export.Dim("T", min=1, max=4096)}
    exported = torch.export.export(layer, (torch.randn(2, 7, 8),), dynamic_shapes=(sizes,)).module()
    for batch, length in ((1, 1), (3, 1100), (1, 4096)):  # the work is cut into segments of 1,024 tokens at most
        x = torch.randn(batch, length, 8)
        assert relative_error(exported(x), layer(x)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_layer_alone_quantised_by_torch(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = DeltaNet(12, num_heads=3, **options).eval()
    x = torch.randn(2, 9, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
    called = copy.deepcopy(layer)  # its own projections replaced by modules that call the quantised ones
    for name, part in quantised.named_children():
        if isinstance(part, torch.ao.nn.quantized.dynamic.Linear):
            setattr(called, name, torch.nn.Sequential(part))
    assert torch.equal(quantised(x), called(x))
    assert 0 < relative_error(quantised(x), layer(x)) < 0.5  # eight bits a number, and then a norm
    cache, other = MemoryCache(), MemoryCache()
    for t in range(9):
        assert torch.equal(quantised(x[:, t : t + 1], cache), called(x[:, t : t + 1], other))
