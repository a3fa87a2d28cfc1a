"""Hyper-connections against their definition, written out token by token: outputs and every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deep_delta.ops import native
from deep_delta.ops.hyper_connection import Inputs, hyper_connection, plain
from tests.tolerances import relative_error

SHAPES = [(1, 1, 1, 1), (1, 1, 2, 3), (2, 5, 4, 7), (3, 2, 1, 9), (1, 33, 3, 16), (2, 3, 5, 1)]  # B, T, V, D
TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6, torch.bfloat16: 2e-2}
EPS = 1e-3
WAYS = ["auto", "batched", "plain"]


def go(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes (in C where there is a compiler), in batches of products, or by the definition in PyTorch."""
    if way == "plain":
        monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    if way == "batched":
        monkeypatch.setattr(native, "unavailable", lambda *tensors: "not in this test")


def draw(shape: tuple[int, ...], *, first: bool = False, seed: int = 0) -> list[Tensor | None]:
    """State, direction and value (none at the first boundary), static, dynamic, scale."""
    B, T, V, D = shape
    generator = torch.Generator().manual_seed(seed)
    shapes = [(B, T, V, D), (B, T, D), (B, T, V), (V, V + 2), (V + 2, D), (2,)]
    tensors = [torch.randn(one, generator=generator, dtype=torch.float64) for one in shapes]
    return [tensors[0], None, None, *tensors[3:]] if first else list(tensors)


def definition(
    state: Tensor, direction: Tensor | None, value: Tensor | None, static: Tensor, dynamic: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's equations, a token at a time."""
    B, T, V, _ = state.shape
    s_alpha, s_beta = scale
    mixed, read, depth = [], [], []
    for b in range(B):
        for t in range(T):
            H = state[b, t]
            if direction is not None:
                H = H + torch.outer(value[b, t], direction[b, t])
            norm = torch.stack([row / torch.sqrt(row.pow(2).mean() + EPS) for row in H])
            A_m = static[:, :1] + s_alpha * torch.tanh(norm @ dynamic[:1].T)
            A_r = static[:, 1 : V + 1] + s_alpha * torch.tanh(norm @ dynamic[1 : V + 1].T)
            mixed.append(A_r.T @ H)
            read.append((A_m.T @ H)[0])
            depth.append(static[:, V + 1] + s_beta * torch.tanh(norm @ dynamic[V + 1]))
    return tuple(torch.stack(one).unflatten(0, (B, T)) for one in (mixed, read, depth))


def leaves(tensors: list[Tensor | None], dtype: torch.dtype, state_dtype: torch.dtype) -> list[Tensor | None]:
    """The first two, which come from the model, in the state's dtype, and the rest in the other."""
    return [
        None if tensor is None else tensor.to(state_dtype).to(state_dtype if i < 2 else dtype).detach().requires_grad_()
        for i, tensor in enumerate(tensors)
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("first", [False, True], ids=["later", "first"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("poisoned_memory")
def test_outputs_and_every_gradient(
    shape: tuple[int, ...], first: bool, dtype: torch.dtype, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(way, monkeypatch)
    tensors = draw(shape, first=first)
    weights = torch.promote_types(dtype, torch.float32)
    ours = leaves(tensors, weights, dtype)
    theirs = [None if one is None else one.detach().double().requires_grad_() for one in ours]
    found = []
    for outs, inputs in ((hyper_connection(*ours, eps=EPS), ours), (definition(*theirs), theirs)):
        upstream = [torch.randn(o.shape, generator=torch.Generator().manual_seed(3)).to(dtype).to(o) for o in outs]
        inputs = [one for one in inputs if one is not None]
        found.append([*outs, *torch.autograd.grad(outs, inputs, upstream)])
    assert [one.dtype for one in found[0][:3]] == [dtype, dtype, weights]
    for actual, expected in zip(*found, strict=True):
        assert relative_error(actual, expected, least=0.1) <= TOLERANCE[dtype]


@pytest.mark.parametrize("way", ["batched", "plain"])
@pytest.mark.parametrize("first", [False, True], ids=["later", "first"])
def test_gradcheck(first: bool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go(way, monkeypatch)
    tensors = leaves(draw((2, 2, 3, 4), first=first), torch.float64, torch.float64)
    assert torch.autograd.gradcheck(lambda *inputs: hyper_connection(*inputs, eps=EPS), tensors)


@pytest.mark.parametrize("way", ["auto", "batched"])
def test_strided_inputs_and_gradients(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go(way, monkeypatch)
    state, direction, value, *weights = (tensor.float() for tensor in draw((2, 5, 4, 6)))
    strided = [state.mT.contiguous().mT, direction[:, :1].expand(2, 5, 6), value.mT.contiguous().mT, *weights]
    strided = [tensor.detach().requires_grad_() for tensor in strided]
    outs, expected = hyper_connection(*strided), plain(Inputs(*strided), 1e-5)
    upstream = [torch.ones(()).expand(o.shape) for o in outs]
    gradients = (torch.autograd.grad(one, strided, upstream) for one in (outs, expected))
    for actual, wanted in zip(*gradients, strict=True):
        assert relative_error(actual, wanted) < 5e-6


@pytest.mark.parametrize("way", ["auto", "batched"])
def test_states_of_any_size_keep_their_coefficients(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ε the norm is blind to the state's size."""
    go(way, monkeypatch)
    state, _, _, *weights = (None if tensor is None else tensor.float() for tensor in draw((1, 3, 4, 40), first=True))
    expected = hyper_connection(state, None, None, *weights, eps=0.0)[2]
    for size in (1e-12, 1e12):
        assert relative_error(hyper_connection(size * state, None, None, *weights, eps=0.0)[2], expected) < 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_autocast_narrows_neither_the_coefficients_nor_their_products(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(way, monkeypatch)
    tensors = leaves(draw((2, 5, 4, 64)), torch.float32, torch.bfloat16)
    inputs = [one for one in tensors if one is not None]
    expected = hyper_connection(*tensors)
    gradients = torch.autograd.grad(sum(one.float().sum() for one in expected), inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = hyper_connection(*tensors)
    again = torch.autograd.grad(sum(one.float().sum() for one in found), inputs)
    for actual, wanted in zip((*found, *again), (*expected, *gradients), strict=True):
        assert actual.dtype == wanted.dtype
        assert torch.equal(actual, wanted)


def test_one_state_is_kept_for_the_backward_pass() -> None:
    kept = []
    inputs = leaves(draw((2, 5, 4, 64)), torch.float32, torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        hyper_connection(*inputs)
    assert [tensor.dtype for tensor in kept if tensor.shape == (2, 5, 4, 64)] == [torch.bfloat16]
    assert max(tensor.numel() for tensor in kept) == 2 * 5 * 4 * 64


def test_second_derivatives_are_refused_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = leaves(draw((1, 2, 3, 4)), torch.float64, torch.float64)
    with pytest.raises(RuntimeError, match=r"no second derivative.*DEEP_DELTA_BACKEND=reference"):
        torch.autograd.grad(hyper_connection(*inputs)[0].sum(), inputs[0], create_graph=True)
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    assert torch.autograd.gradgradcheck(lambda *tensors: hyper_connection(*tensors), inputs)
