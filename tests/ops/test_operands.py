"""Operands that do not fit are refused by name before a kernel reads memory by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from deep_delta.ops import chunk_delta_rule, delta_update
from deep_delta.ops.attention import causal_attention
from deep_delta.ops.causal_conv import causal_conv
from deep_delta.ops.heads import split_heads
from deep_delta.ops.hyper_connection import hyper_connection
from deep_delta.ops.linear_cross_entropy import linear_cross_entropy
from deep_delta.ops.silu_product import silu_product
from deep_delta.ops.stream_step import continue_step, stream_step

B, T, V, D, H, K = 2, 5, 3, 8, 2, 4

Shapes = dict[str, tuple[int, ...]]
STEP: Shapes = {
    "state": (B, T, V, D),
    "k": (B, T, D),
    "v": (B, T, V),
    "beta": (B, T, 1),
    "read": (2, V, D),
    "gain": (D,),
}
NO_HEADS: dict[str, Any] = {"heads": None, "gate": None, "gate_bias": None}
OPERATORS: dict[str, tuple[Callable[..., Any], Shapes, dict[str, Any]]] = {
    "causal_attention": (causal_attention, {"q": (B, H, T, K), "k": (B, H, T, K), "v": (B, H, T, 6)}, {}),
    "causal_conv": (causal_conv, {"x": (B, T, D), "weight": (4, V, D)}, {}),
    "split_heads": (
        split_heads,
        {"qkv": (B, T, 3, H, K), "cos": (T, 2), "sin": (T, 2), "gain": (2, K)},
        {},
    ),
    "hyper_connection": (
        hyper_connection,
        {
            "state": (B, T, V, D), "direction": (B, T, D), "value": (B, T, V),
            "static": (V, V + 2), "dynamic": (V + 2, D), "scale": (2,),
        },
        {},
    ),
    "linear_cross_entropy": (
        linear_cross_entropy,
        {"hidden": (T, D), "weight": (9, D)},
        {"targets": torch.zeros(T, dtype=torch.int64)},
    ),
    "stream_step": (stream_step, STEP | {"carry": (B, T, V, D)}, NO_HEADS),
    "continue_step": (continue_step, STEP | {"late": (B, 1, D)}, NO_HEADS),
    "delta_update": (delta_update, {"x": (B, D, V), "k": (B, D), "v": (B, V), "beta": (B, 1)}, {}),
    "chunk_delta_rule": (
        chunk_delta_rule,
        {"q": (B, H, T, K), "k": (B, H, T, K), "v": (B, H, T, 6), "beta": (B, H, T), "initial_state": (B, H, K, 6)},
        {},
    ),
}  # fmt: skip
OPERANDS = [(name, operand) for name, (_, shapes, _) in OPERATORS.items() for operand in shapes]
each_operand = pytest.mark.parametrize(("name", "operand"), OPERANDS)


def arguments(name: str) -> dict[str, Any]:
    _, shapes, others = OPERATORS[name]
    values = {"cos": 0.6, "sin": 0.8}
    return {operand: torch.full(shape, values.get(operand, 1.0)) for operand, shape in shapes.items()} | others


def call(name: str, **changed: Any) -> Any:
    return OPERATORS[name][0](**(arguments(name) | changed))


@pytest.mark.parametrize("name", OPERATORS)
def test_what_fits_is_taken(name: str) -> None:
    call(name)


FREE = {
    ("causal_attention", "v", 3), ("causal_conv", "x", 0), ("causal_conv", "x", 1), ("causal_conv", "weight", 0),
    ("causal_conv", "weight", 1), ("split_heads", "qkv", 0), ("split_heads", "qkv", 3),
    ("linear_cross_entropy", "weight", 0), ("stream_step", "read", 0),
}  # fmt: skip
"""Axes that no other operand shares."""


def change_of(name: str, operand: str, axis: int) -> Tensor | None:
    """The operand with one axis twice as long and one longer; None where any length is right."""
    shape = list(OPERATORS[name][1][operand])
    if (name, operand, axis) in FREE:
        return None
    shape[axis] = 2 * shape[axis] + 1
    return torch.ones(shape)


@each_operand
def test_another_shape_is_refused(name: str, operand: str) -> None:
    shape = OPERATORS[name][1][operand]
    for axis in range(len(shape)):
        changed = change_of(name, operand, axis)
        if changed is not None:
            with pytest.raises(ValueError, match=r"got .*\("):
                call(name, **{operand: changed})
    with pytest.raises(ValueError, match=r"got .*\("):
        call(name, **{operand: torch.ones((1, 1, *shape))})


@each_operand
def test_another_device_is_refused(name: str, operand: str) -> None:
    with pytest.raises(ValueError, match=r"on one device, got .* on meta"):
        call(name, **{operand: torch.ones(OPERATORS[name][1][operand], device="meta")})


@each_operand
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_what_is_not_floating_point_is_refused(name: str, operand: str, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"{operand} must be a floating-point tensor, got {dtype}"):
        call(name, **{operand: torch.ones(OPERATORS[name][1][operand], dtype=dtype)})


@each_operand
def test_numbers_and_lists_are_refused(name: str, operand: str) -> None:
    for value in (1.0, [1.0]):
        with pytest.raises(TypeError, match=f"{operand} must be a floating-point tensor, got {type(value).__name__}"):
            call(name, **{operand: value})


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("split_heads", {"cos": torch.ones(T, 3), "sin": torch.ones(T, 3)}, "K/2 = 2 angles at most"),
        ("causal_conv", {"weight": torch.ones(0, V, D)}, "must have a tap"),
        ("hyper_connection", {"direction": None}, "come together"),
        ("hyper_connection", {"static": torch.ones(V, 4), "dynamic": torch.ones(4, D)}, r"static must be \[V, V \+ 2"),
        ("linear_cross_entropy", {"targets": torch.zeros(T - 1, dtype=torch.int64)}, "targets must be int64"),
        ("linear_cross_entropy", {"targets": torch.zeros(T)}, "targets must be int64"),
        ("linear_cross_entropy", {"weight": torch.ones(0, D)}, "a row for each word"),
        ("linear_cross_entropy", {"reduction": "none"}, "'mean' or 'sum'"),
    ],
)
def test_what_else_does_not_fit(name: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, **changed)


@pytest.mark.parametrize("shape", [(3, 7), (1,), ()])
def test_halves_must_be_equal(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"gate_up must be \[..., 2·F\]"):
        silu_product(torch.ones(shape))


def test_bounds_of_packed_sequences_that_cannot_be_read_are_refused() -> None:
    q, beta = torch.ones(1, H, T, K), torch.ones(1, H, T)
    with pytest.raises(ValueError, match="cu_seqlens must be on cpu"):
        chunk_delta_rule(q, q, q, beta, cu_seqlens=torch.tensor([0, T], device="meta"))
    with pytest.raises(TypeError, match="cu_seqlens must be an int32 or int64 tensor, got list"):
        chunk_delta_rule(q, q, q, beta, cu_seqlens=[0, T])  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(0, H, T, K), (B, H, 0, K), (B, 0, T, K)])
def test_attention_over_nothing_is_nothing(shape: tuple[int, ...]) -> None:
    inputs = [torch.ones(shape, requires_grad=True) for _ in range(3)]
    causal_attention(*inputs).sum().backward()
    assert all(x.grad is not None and x.grad.shape == shape for x in inputs)


def test_features_of_no_width_pass() -> None:
    assert silu_product(torch.ones(3, 0)).shape == (3, 0)


@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "causal_attention"])
def test_an_fp64_operand_makes_fp64_arithmetic(name: str) -> None:
    """Any of them by itself is enough: it is far below the range of fp32, and the oracle has all of them in fp64."""
    function, shapes, others = OPERATORS[name]
    generator = torch.Generator().manual_seed(0)
    drawn = {key: torch.rand(shape, generator=generator, dtype=torch.float64) for key, shape in shapes.items()}
    narrow = {key: x.float() for key, x in drawn.items()}
    first = next(iter(shapes))
    for operand in [key for key in shapes if key not in (first, "carry")]:
        changed = narrow | {operand: narrow[operand].double() * 1e-60}
        found = function(**changed, **others)
        exact = function(**{key: x.double() for key, x in changed.items()}, **others)
        for a, b in zip(_tensors(found), _tensors(exact), strict=True):
            torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-6, atol=0)


def _tensors(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    return [x for one in found for x in (_tensors(one) if isinstance(one, tuple) else [one]) if isinstance(x, Tensor)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", OPERATORS)
def test_views_that_stand_for_the_negative_of_what_is_stored(name: str, dtype: torch.dtype) -> None:
    given = {key: x.to(dtype) for key, x in arguments(name).items() if key in OPERATORS[name][1]}
    negated = {key: torch._neg_view(-x) for key, x in given.items()}
    for a, b in zip(_tensors(call(name, **negated)), _tensors(call(name, **given)), strict=True):
        torch.testing.assert_close(a.resolve_neg(), b)
