"""The operators of the sublayers (heads, SwiGLU's product, attention, the output layer's loss) against their
definitions, in fp64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta.ops import causal_conv, heads, native, silu_product
from deep_delta.ops import linear_cross_entropy as output
from deep_delta.ops.attention import causal_attention
from tests.threads import num_threads
from tests.tolerances import relative_error

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-13, torch.float32: 5e-6, torch.bfloat16: 2e-2}
COMPILER = pytest.mark.skipif(
    native.unavailable(torch.zeros(1)) is not None, reason=f"no kernels: {native.unavailable(torch.zeros(1))}"
)


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hold(
    operator: Callable[..., Any], definition: Callable[..., Any], dtype: torch.dtype, *tensors: Tensor, **options: Any
) -> None:
    """The operator in `dtype` against its definition in fp64 on the same rounded inputs: outputs, every gradient."""
    found = []
    for function, precision in ((operator, dtype), (definition, torch.float64)):
        inputs = [tensor.to(dtype).to(precision).detach().requires_grad_() for tensor in tensors]
        out = function(*inputs, **options)
        outs = out if isinstance(out, tuple) else (out,)
        upstream = [draw(*o.shape, seed=9).to(dtype).to(o.dtype) for o in outs]
        found.append([*outs, *torch.autograd.grad(outs, inputs, upstream)])
        assert all(gradient.dtype == precision for gradient in found[-1][len(outs) :])
    for actual, expected in zip(*found, strict=True):
        assert relative_error(actual, expected, least=0.1) <= TOLERANCE[dtype]


def attention_definition(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT * q.shape[-1] ** -0.5
    above = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(above, float("-inf")).softmax(-1) @ v


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 200])
@pytest.mark.usefixtures("poisoned_memory")
def test_attention(dtype: torch.dtype, T: int) -> None:
    strided = draw(2, T, 3, 3, 8).permute(2, 0, 3, 1, 4)
    hold(causal_attention, attention_definition, dtype, *strided.unbind(0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2,), (3, 5, 14), (7, 2 * 683), (1, 0, 8)], ids=str)
@pytest.mark.usefixtures("poisoned_memory")
def test_silu_product(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    hold(silu_product.silu_product, silu_product.plain, dtype, draw(*shape, scale=5.0))


@COMPILER
def test_silu_at_the_ends_of_the_range() -> None:
    gate = torch.tensor([-1e30, -1e3, -104.0, -88.5, -40.0, 0.0, 88.5, 104.0, 1e3, 1e30, float("inf")])
    gate_up = torch.stack((gate, torch.ones_like(gate)), -1).requires_grad_()
    silu = silu_product.silu_product(gate_up).squeeze(-1)
    expected = F.silu(gate.double())
    assert torch.allclose(silu.double(), expected, rtol=1e-6, atol=1e-37)
    assert silu_product.silu_product(torch.tensor([float("nan"), 1.0])).isnan().all()
    (grad,) = torch.autograd.grad(silu[:-1].sum(), gate_up)
    assert grad[:-1].isfinite().all()
    dense = torch.linspace(-88, 100, 200_001)
    actual = silu_product.silu_product(torch.stack((dense, torch.ones_like(dense)), -1)).squeeze(-1)
    expected = F.silu(dense.double())
    assert ((actual - expected).abs() / expected.abs().clamp_min(1e-36)).max() < 5e-7


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("half", [0, 3, 4])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.usefixtures("poisoned_memory")
def test_split_heads(dtype: torch.dtype, half: int, normalised: bool) -> None:
    T, K = 5, 8
    angle = draw(T, half, seed=2)
    gain = (draw(2, K, seed=3),) if normalised else ()

    def split(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda qkv, *gain: function(qkv, angle.cos(), angle.sin(), *(gain or (None,)), eps=1e-5)

    strided = draw(3, T, 3, K, 2).transpose(-1, -2)  # K is not the fastest axis
    hold(split(heads.split_heads), split(heads.plain), dtype, strided, *gain)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("T", "V", "S"), [(1, 1, 1), (2, 3, 4), (7, 4, 4), (150, 2, 3)])
@pytest.mark.usefixtures("poisoned_memory")
def test_causal_conv(dtype: torch.dtype, T: int, V: int, S: int) -> None:
    hold(causal_conv.causal_conv, causal_conv.plain, dtype, draw(2, 6, T).mT, draw(S, V, 6, seed=1))


@COMPILER
def test_split_heads_on_threads_sums_every_token_once() -> None:
    qkv, gain = draw(2, 150, 3, 2, 8).float(), draw(2, 8).float().requires_grad_()
    angle = draw(150, 4).float()
    gradients = []
    for threads in (1, 3):
        with num_threads(threads):
            q, k, _ = heads.split_heads(qkv, angle.cos(), angle.sin(), gain)
            gradients.append(torch.autograd.grad((q * k).sum(), gain)[0])
    assert relative_error(gradients[1], gradients[0]) < 1e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("tokens", "words"), [(1, 2), (130, 7), (300, 9000)])
@pytest.mark.usefixtures("poisoned_memory")
def test_linear_cross_entropy(dtype: torch.dtype, tokens: int, words: int) -> None:
    targets = torch.randint(words, (tokens,), generator=torch.Generator().manual_seed(1))
    if tokens > 1:
        targets[::3] = -100
    hidden, weight = draw(tokens, 6), draw(words, 6, seed=1)
    inputs = [[t.to(dtype).requires_grad_() for t in (hidden, weight)] for _ in range(2)]
    actual = output.linear_cross_entropy(*inputs[0], targets)
    expected = output.plain(*(t.detach().double().requires_grad_() for t in inputs[1]), targets)
    assert relative_error(actual, expected) <= TOLERANCE[dtype]
    assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    hold(
        lambda h, w: output.linear_cross_entropy(h, w, targets), lambda h, w: output.plain(h, w, targets),
        dtype, hidden, weight,
    )  # fmt: skip


def test_the_loss_is_torchs_in_every_corner() -> None:
    hidden, weight, targets = draw(5, 3).float(), draw(4, 3).float(), torch.tensor([0, 3, -100, 1, 2])
    with torch.no_grad():
        actual = output.linear_cross_entropy(hidden, weight, targets)
    assert torch.allclose(actual, F.cross_entropy(hidden @ weight.T, targets))
    summed = output.linear_cross_entropy(hidden, weight, targets, reduction="sum")
    assert torch.allclose(summed, F.cross_entropy(hidden @ weight.T, targets, reduction="sum"))
    assert output.linear_cross_entropy(hidden * torch.nan, weight, targets).isnan()
    far = output.linear_cross_entropy(hidden * 1e4, weight, targets)
    assert torch.allclose(far, F.cross_entropy(hidden * 1e4 @ weight.T, targets))


def test_logits_are_never_all_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    empty = torch.Tensor.new_empty

    def watch(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal largest
        made = empty(self, *args, **kwargs)
        largest = max(largest, made.numel())
        return made

    monkeypatch.setattr(torch.Tensor, "new_empty", watch)
    hidden, weight = torch.randn(1000, 4, requires_grad=True), torch.randn(20_000, 4, requires_grad=True)
    output.linear_cross_entropy(hidden, weight, torch.zeros(1000, dtype=torch.int64)).backward()
    assert 0 < largest <= 256 * 20_000


@pytest.mark.parametrize(
    "operator",
    [
        lambda x: silu_product.silu_product(x),
        lambda x: causal_attention(*x.view(3, 1, 1, 2, 4)),
        lambda x: output.linear_cross_entropy(x, x, torch.tensor([0, 1])),
    ],
)
def test_second_derivatives_are_refused_not_wrong(operator: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(2, 12, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*DEEP_DELTA_BACKEND=reference"):
        torch.autograd.grad(operator(x).sum(), x, create_graph=True)


def test_the_environment_asks_for_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    x = torch.randn(2, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(silu_product.silu_product(x).sum(), x, create_graph=True)
    grad.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("run", [output.linear_cross_entropy, output.plain])
def test_where_no_target_counts_the_loss_and_its_gradients_are_zero(run: Any, reduction: Any) -> None:
    hidden, weight = (draw(5, 3).float().requires_grad_(), draw(4, 3).float().requires_grad_())
    loss = run(hidden, weight, torch.full((5,), -100), reduction=reduction)
    loss.backward()
    assert loss.item() == 0.0
    assert not hidden.grad.any()
    assert not weight.grad.any()
