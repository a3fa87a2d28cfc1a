"""What every operator with a hand-written backward promises to autograd's other users, whatever it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from deep_delta.errors import BackendError
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config
from deep_delta.ops import chunk_delta_rule, delta_rule_step, delta_update, native, normalize_direction
from deep_delta.ops.attention import causal_attention
from deep_delta.ops.causal_conv import causal_conv
from deep_delta.ops.heads import split_heads
from deep_delta.ops.hyper_connection import hyper_connection
from deep_delta.ops.linear_cross_entropy import linear_cross_entropy
from deep_delta.ops.silu_product import silu_product
from deep_delta.ops.stream_step import stream_step
from tests.tolerances import relative_error

B, T, V, D, H, K = 2, 5, 3, 8, 2, 4
Function = Callable[..., Any]


def heads(qkv: Tensor, gain: Tensor) -> tuple[Tensor, ...]:
    angles = torch.arange(T).unsqueeze(1) * torch.tensor([1.0, 0.1])
    return split_heads(qkv, angles.cos(), angles.sin(), gain)


def loss(hidden: Tensor, weight: Tensor) -> Tensor:
    return linear_cross_entropy(hidden, weight, torch.arange(T) % 3)


def time(q: Tensor, k: Tensor, v: Tensor, logits: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    return chunk_delta_rule(q, k, v, logits.sigmoid(), 2, output_final_state=True, backend=backend)


def depth(x: Tensor, k: Tensor, v: Tensor, logits: Tensor, backend: str = "auto") -> Tensor:
    return delta_update(x, k, v, 2 * logits.sigmoid(), backend=backend)


def stream(*operands: Tensor, backend: str = "auto") -> tuple[Tensor, ...]:
    return tuple(x for x in stream_step(*operands, backend=backend) if isinstance(x, Tensor))


STREAM = [(B, T, V, D), (B, T, D), (B, T, V), (B, T, 1), (2, V, D), (D,), (2, D), (1, D), (1,)]
OPERATORS: dict[str, tuple[Function, list[tuple[int, ...]]]] = {
    "split_heads": (heads, [(B, T, 3, H, K), (2, K)]),
    "silu_product": (silu_product, [(B, T, 2 * D)]),
    "causal_conv": (causal_conv, [(B, T, D), (3, V, D)]),
    "stream_step": (stream, STREAM),
    "hyper_connection": (hyper_connection, [(B, T, V, D), (B, T, D), (B, T, V), (V, V + 2), (V + 2, D), (2,)]),
    "linear_cross_entropy": (loss, [(T, D), (3, D)]),
    "causal_attention": (causal_attention, [(B, H, T, K)] * 3),
    "normalize_direction": (normalize_direction, [(B, T, D)]),
    "delta_update": (depth, [(B, D, V), (B, D), (B, V), (B, 1)]),
    "chunk_delta_rule": (time, [(B, H, T, K)] * 3 + [(B, H, T)]),
    "delta_rule_step": (delta_rule_step, [(B, H, K)] * 3 + [(B, H), (B, H, K, K)]),
}
BY_HAND = [name for name in OPERATORS if name != "delta_rule_step"]


def draw(name: str, dtype: torch.dtype = torch.float32) -> tuple[Function, list[Tensor]]:
    torch.manual_seed(0)
    function, shapes = OPERATORS[name]
    return function, [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def outputs(function: Function, inputs: list[Tensor]) -> list[Tensor]:
    found = function(*inputs)
    return [found] if isinstance(found, Tensor) else list(found)


def upstream(made: list[Tensor], *batch: int) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn((*batch, *x.shape), dtype=x.dtype) for x in made]


@pytest.mark.parametrize("name", OPERATORS)
def test_batched_gradients_are_those_one_by_one(name: str) -> None:
    function, inputs = draw(name)
    made = outputs(function, inputs)
    grads = upstream(made, 2, 3)
    rows = [[torch.autograd.grad(made, inputs, [g[i, j] for g in grads], retain_graph=True) for j in range(3)]
            for i in range(2)]  # fmt: skip

    def by_autograd(*some: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(made, inputs, some, retain_graph=True, is_grads_batched=True)

    def by_vmap(*some: Tensor) -> tuple[Tensor, ...]:
        return torch.func.vmap(lambda *g: torch.autograd.grad(made, inputs, g, retain_graph=True))(*some)

    for batched in (by_autograd, by_vmap):
        for found, *expected in zip(batched(*(g[0] for g in grads)), *rows[0], strict=True):
            assert relative_error(found, torch.stack(expected)) < 1e-6
    twice = torch.func.vmap(by_vmap)(*grads)
    for index, found in enumerate(twice):
        expected = torch.stack([torch.stack([row[index] for row in some]) for some in rows])
        assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("name", OPERATORS)
def test_checkpointing_and_hooks_on_what_is_saved_change_nothing(name: str) -> None:
    function, inputs = draw(name)
    expected = torch.autograd.grad(outputs(function, inputs), inputs, upstream(outputs(function, inputs)))
    unpacked: list[int] = []

    def unpack(packed: tuple[int, Tensor]) -> Tensor:
        unpacked.append(packed[0])
        return packed[1].clone()

    numbers = iter(range(100))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: (next(numbers), x.detach().clone()), unpack):
        made = outputs(function, inputs)
    offloaded = torch.autograd.grad(made, inputs, upstream(made), retain_graph=True)
    assert len(unpacked) == len(set(unpacked)), "a tensor is unpacked once in a backward"
    again = torch.autograd.grad(made, inputs, upstream(made))
    for reentrant in (False, True):
        made = checkpoint(lambda *x: tuple(outputs(function, x)), *inputs, use_reentrant=reentrant)
        if reentrant:  # which only `backward` drives
            torch.autograd.backward(made, upstream(list(made)))
            recomputed = tuple(x.grad for x in inputs)
        else:
            recomputed = torch.autograd.grad(made, inputs, upstream(list(made)))
        for a, b, c, d in zip(recomputed, offloaded, again, expected, strict=True):
            assert torch.equal(a, d)
            assert torch.equal(b, d)
            assert torch.equal(c, d)


@pytest.mark.parametrize("name", BY_HAND)
def test_second_derivatives_are_refused_with_the_remedy_which_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, inputs = draw(name)
    made = outputs(function, inputs)
    if name not in ("split_heads", "causal_conv") or not native.unavailable(inputs[0]):
        with pytest.raises(RuntimeError, match=r"no second derivative .*set DEEP_DELTA_BACKEND=reference"):
            torch.autograd.grad(made, inputs, upstream(made), create_graph=True)
    function, inputs = draw(name, torch.float64)
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    weights = upstream(outputs(function, inputs))

    def first(*inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs(function, list(inputs)), inputs, weights, create_graph=True)

    torch.manual_seed(2)
    ways = [torch.randn_like(x) for x in inputs]
    slopes = torch.autograd.grad(first(*inputs), inputs, ways, allow_unused=True, materialize_grads=True)
    step = 1e-6
    ahead, behind = (first(*(x + sign * step * way for x, way in zip(inputs, ways, strict=True))) for sign in (1, -1))
    for slope, a, b in zip(slopes, ahead, behind, strict=True):
        assert relative_error(slope, (a - b) / (2 * step), least=1e-3) < 1e-6


@pytest.mark.parametrize("name", ["delta_update", "chunk_delta_rule", "stream_step"])
def test_the_reference_as_an_argument_has_second_derivatives_too(name: str) -> None:
    function, inputs = draw(name, torch.float64)
    weights = upstream(outputs(function, inputs))

    def value(*inputs: Tensor) -> Tensor:
        found = function(*inputs, backend="reference")
        return sum((x * w).sum() for x, w in zip([found] if isinstance(found, Tensor) else found, weights, strict=True))

    assert torch.autograd.gradgradcheck(value, inputs)


@pytest.mark.parametrize("mixer", ["attention", "deltanet"])
@pytest.mark.parametrize("variant", ["baseline", "ddl-ec"])
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, at its first jvp
def test_second_and_forward_derivatives_of_a_whole_model(
    variant: str, mixer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    torch.manual_seed(0)
    config = variant_config(variant, d_model=8, num_heads=2, vocab_size=7, num_layers=1, mixer=mixer)
    model, ids = DdlTransformer(config).double(), torch.arange(10).view(2, 5) % 7
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    ways = {name: torch.randn_like(weight) for name, weight in weights.items()}

    def objective(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, (ids,)).square().mean()

    def slope(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.jvp(objective, (weights,), (ways,))[1]

    value, curvature = torch.func.jvp(slope, (weights,), (ways,))
    leaves = list(model.parameters())
    first = torch.autograd.grad(objective(dict(model.named_parameters())), leaves, create_graph=True)
    along = sum((g * ways[name]).sum() for g, (name, _) in zip(first, model.named_parameters(), strict=True))
    assert relative_error(along.detach(), value) < 1e-10
    second = torch.autograd.grad(along, leaves)
    found = sum((g * ways[name]).sum() for g, (name, _) in zip(second, model.named_parameters(), strict=True))
    assert relative_error(found, curvature) < 1e-9


@pytest.mark.parametrize("name", BY_HAND)
def test_gradients_that_are_views_or_come_under_autocast(name: str) -> None:
    function, inputs = draw(name)
    made = outputs(function, inputs)
    grads = upstream(made)
    expected = torch.autograd.grad(made, inputs, grads, retain_graph=True)
    negated = torch.autograd.grad(made, inputs, [torch._neg_view(-g) for g in grads], retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = torch.autograd.grad(made, inputs, grads, retain_graph=True)
    ones = torch.autograd.grad(made, inputs, [torch.ones_like(g) for g in grads], retain_graph=True)
    expanded = torch.autograd.grad(made, inputs, [torch.ones(()).expand(g.shape) for g in grads])
    for a, b, c, d, e in zip(negated, under_autocast, expected, ones, expanded, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, c)
        torch.testing.assert_close(e, d)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_trace_of_the_backward_alone_is_right_or_refused(name: str) -> None:
    function, inputs = draw(name)
    made = outputs(function, inputs)

    def backward(*grads: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(made, inputs, grads, retain_graph=True)

    refusal = ""
    try:
        graph = make_fx(backward)(*upstream(made))
    except BackendError as error:
        refusal = str(error)
    if refusal:
        assert "set DEEP_DELTA_BACKEND=reference" in refusal
        return
    others = [2 - g for g in upstream(made)]
    for a, b in zip(graph(*others), backward(*others), strict=True):
        torch.testing.assert_close(a, b)
