"""Operators under what records, fakes or wraps tensors: the same numbers and shapes, or a refusal by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils.flop_counter import FlopCounterMode

from deep_delta.ops import chunk_delta_rule, delta_rule_step, delta_update, normalize_direction
from deep_delta.ops.attention import causal_attention

B, H, T, K, D, V = 2, 2, 5, 4, 8, 3


def time(q: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    return chunk_delta_rule(q, k, v, logits.sigmoid(), 2, output_final_state=True)


def depth(x: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> Tensor:
    return delta_update(x, k, v, 2 * logits.sigmoid())


OPERATORS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "chunk_delta_rule": (time, [(B, H, T, K)] * 3 + [(B, H, T)]),
    "delta_rule_step": (delta_rule_step, [(B, H, K)] * 3 + [(B, H), (B, H, K, K)]),
    "delta_update": (depth, [(B, D, V), (B, D), (B, V), (B, 1)]),
    "causal_attention": (causal_attention, [(B, H, T, K)] * 3),
    "normalize_direction": (normalize_direction, [(B, T, D)]),
}
pytestmark = pytest.mark.parametrize("name", OPERATORS)


def run(name: str, *inputs: Tensor) -> tuple[Tensor, ...]:
    found = OPERATORS[name][0](*inputs)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def draw(name: str, seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(shape) for shape in OPERATORS[name][1]]


def with_gradients(name: str, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    made = run(name, *leaves)
    return *made, *torch.autograd.grad(made, leaves, [torch.ones_like(x) for x in made])


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


class Wrapped(torch.Tensor):
    """A tensor without memory of its own: it holds another."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Wrapped:
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, strides=held.stride(), dtype=held.dtype)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inner = pytree.tree_map(lambda x: x.held if isinstance(x, Wrapped) else x, (args, kwargs or {}))
        made = function(*inner[0], **inner[1])
        made = pytree.tree_map(lambda x: Wrapped(x) if isinstance(x, Tensor) else x, made)
        return return_and_correct_aliasing(function, args, kwargs or {}, made)


class Dispatched(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class Replaced(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def test_wrapper_subclasses(name: str) -> None:
    inputs = draw(name)
    expected = with_gradients(name, inputs)
    for wrapped in (*({place} for place in range(len(inputs))), set(range(len(inputs)))):
        found = with_gradients(name, [Wrapped(x) if place in wrapped else x for place, x in enumerate(inputs)])
        assert_same(tuple(x.held if isinstance(x, Wrapped) else x for x in found), expected)


@pytest.mark.parametrize("mode", [Dispatched, Replaced, lambda: FlopCounterMode(display=False)])
def test_modes_that_see_every_operation(name: str, mode: Callable[[], AbstractContextManager[Any]]) -> None:
    expected = with_gradients(name, draw(name))
    with mode():
        assert_same(with_gradients(name, draw(name)), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_other_defaults(name: str, dtype: torch.dtype, device: str) -> None:
    inputs = draw(name)
    expected = with_gradients(name, inputs)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            found = with_gradients(name, inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(found, expected)


def test_fake_tensors_have_the_shapes_and_types(name: str) -> None:
    inputs = draw(name)
    with FakeTensorMode() as fake:
        found = with_gradients(name, [fake.from_tensor(x) for x in inputs])
    for a, b in zip(found, with_gradients(name, inputs), strict=True):
        assert (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_traces_by_make_fx_compute_the_same_of_other_inputs(name: str, mode: str) -> None:
    def both(*inputs: Tensor) -> tuple[Tensor, ...]:
        return with_gradients(name, list(inputs))

    graph = make_fx(both, tracing_mode=mode)(*draw(name))
    assert_same(graph(*draw(name, 1)), both(*draw(name, 1)))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated", "ignore:`torch.jit.trace_method`")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # shapes become constants, as is said there
def test_traces_by_jit_compute_the_same_of_other_inputs(name: str) -> None:
    with torch.no_grad():
        traced = torch.jit.trace(lambda *inputs: run(name, *inputs), tuple(draw(name)))
        assert_same(traced(*draw(name, 1)), run(name, *draw(name, 1)))


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    from torch.distributed import HashStore, destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without it")
def test_sharded_tensors_are_right_or_refused_by_name(name: str, mesh: Any) -> None:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    inputs = draw(name)
    for placement in (Replicate(), Shard(0)):
        refusal = ""
        try:
            found = run(name, *(distribute_tensor(x, mesh, [placement]) for x in inputs))
        except NotImplementedError as error:  # PyTorch's, of an op that it does not know how to cut
            refusal = str(error)
        if refusal:
            assert f"deep_delta.{name}" in refusal
        else:
            assert_same(tuple(x.full_tensor() for x in found), run(name, *inputs))
