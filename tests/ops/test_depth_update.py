"""Every backend of the delta update against the definition in fp64, and the contract of the public function."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from deep_delta.errors import BackendError
from deep_delta.ops import delta_operator, delta_update, device_kernels, normalize_direction
from deep_delta.ops.depth_update import BACKENDS, explain_delta_update, reference
from tests.tolerances import TOLERANCE, relative_error

NAMES = [one.name for one in BACKENDS if not one.unavailable(torch.zeros(1, 1, dtype=torch.float64))]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class Case(NamedTuple):
    """Inputs of one call and the upstream gradient."""

    x: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    grad: Tensor


def draw_case(seed: int, dtype: torch.dtype) -> Case:
    """Odd sizes, vector and matrix forms, broadcast axes, and transposed, strided or expanded storage."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    batch = [rng.choice([1, 2, 3, 5]) for _ in range(rng.choice([0, 1, 2, 3]))]
    D, V = rng.choice([1, 2, 3, 7, 16, 33, 64]), rng.choice([1, 1, 2, 3, 4, 5, 8])
    is_vector = V == 1 and rng.random() < 0.5

    def draw(*tail: int, uniform: bool = False) -> Tensor:
        axes = [1 if rng.random() < 0.2 else n for n in batch]
        shape = [*axes, *tail]
        style = rng.choice(["plain", "plain", "transposed", "strided", "expanded"])
        sample = torch.rand if uniform else torch.randn

        def fill(*size: int) -> Tensor:
            return (sample(*size, generator=generator, dtype=torch.float64) * (2 if uniform else 1)).to(dtype)

        if style == "transposed" and len(shape) >= 2:
            return fill(*shape[:-2], shape[-1], shape[-2]).mT
        if style == "strided":
            return fill(*shape[:-1], 2 * shape[-1])[..., ::2]
        if style == "expanded" and shape[:-1]:
            return fill(1, *shape[1:]).expand(shape)
        return fill(*shape)

    x = draw(D) if is_vector else draw(D, V)
    k, v = draw(D), draw(V)
    beta = draw(1, uniform=True) if rng.random() < 0.5 or not batch else draw(1, uniform=True).squeeze(-1)
    shape = torch.broadcast_shapes(x.shape[: len(batch)], k.shape[:-1], v.shape[:-1], beta.shape[: len(batch)])
    batch[:] = shape
    grad = draw(*x.shape[len(batch) :]).expand(*shape, *x.shape[len(batch) :])
    return Case(x, k, v, beta, grad)


def gradients(case: Case, backend: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in case[:4]]
    out = delta_update(*inputs, backend=backend)
    return out, *torch.autograd.grad(out, inputs, case.grad.to(out.dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.usefixtures("poisoned_memory")
def test_output_and_every_gradient_match_the_definition(backend: str, dtype: torch.dtype) -> None:
    for seed in range(500):
        case = draw_case(seed, dtype)
        inputs = [tensor.detach().requires_grad_() for tensor in case[:4]]
        out = delta_update(*inputs, backend=backend)
        assert out.dtype == dtype
        actual = (out, *torch.autograd.grad(out, inputs, case.grad))
        expected = gradients(Case(*(tensor.double() for tensor in case)), "reference", torch.float64)
        for name, a, b in zip(("out", "x", "k", "v", "beta"), actual, expected, strict=True):
            if name == "k":  # the slope grows as 1/‖k‖, and its rounding with it
                length = case.k.double().norm(dim=-1, keepdim=True)
                a, b = a * length, b * length
            error = relative_error(a, b, least=1.0)  # inputs are of size 1; a sum that cancels is judged on that scale
            assert error <= TOLERANCE[dtype, backend], f"seed {seed}, {name}: {error:.2e}"


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("V", [1, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(backend: str, V: int, normalize: bool) -> None:
    torch.manual_seed(0)
    double = {"dtype": torch.float64, "requires_grad": True}
    x, k, v = torch.randn(2, 5, V, **double), torch.randn(2, 5, **double), torch.randn(2, V, **double)
    logits = torch.tensor([[-20.0], [20.0]], **double)

    def run(x: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> Tensor:
        return delta_update(x, k, v, 2 * torch.sigmoid(logits), normalize=normalize, backend=backend)

    assert torch.autograd.gradcheck(run, (x, k, v, logits), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("backend", NAMES)
def test_gradcheck_at_a_zero_direction(backend: str) -> None:
    double = {"dtype": torch.float64, "requires_grad": True}
    torch.manual_seed(1)
    x, v, beta = torch.randn(3, 4, 2, **double), torch.randn(3, 2, **double), torch.rand(3, 1, **double)
    k = torch.zeros(3, 4, **double)
    assert torch.autograd.gradcheck(
        lambda *inputs: delta_update(*inputs, eps=1e-2, backend=backend), (x, k, v, beta), atol=1e-7, rtol=1e-5
    )


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        *itertools.product((torch.float32, torch.bfloat16), (0.0, 1e-20, 1e-6, 1.0, 1e20)),
        *itertools.product((torch.float16,), (0.0, 1e-20, 1e-6, 1.0, 1e4)),  # fp16 has no 1e20
    ],
    ids=str,
)
def test_any_size_of_direction_is_finite_and_right(backend: str, dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(2)
    x, v, beta = torch.randn(4, 16, 3), torch.randn(4, 3), 2 * torch.rand(4, 1)
    k = (size * torch.randn(4, 16, dtype=torch.float64)).to(dtype)
    inputs = [x, k, v, beta]
    for tensor in inputs:
        tensor.requires_grad_()
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    out = delta_update(*inputs, backend=backend)
    expected = reference.delta_update(*exact)
    assert relative_error(out, expected) < 1e-5
    out.sum().backward()
    expected.sum().backward()
    for name, a, b in zip(("x", "k", "v", "beta"), inputs, exact, strict=True):
        if name == "k" and dtype is torch.float16:
            if backend == "fused":
                assert a.grad.isfinite().all(), "the slope at k = 0 is 1/ε: it saturates in fp16"
            continue
        assert a.grad.isfinite().all()
        tolerance = TOLERANCE[dtype, backend] if name == "k" else 1e-5
        assert relative_error(a.grad, b.grad) < tolerance, name


def test_a_zero_direction_gives_the_identity_even_without_epsilon() -> None:
    x = torch.randn(5, 4)
    for eps in (1e-6, 0.0):
        assert torch.equal(delta_update(x, torch.zeros(5), torch.randn(4), torch.ones(1), eps=eps), x)


def test_the_layout_of_the_state_is_kept() -> None:
    x_DV, x_VD = torch.randn(6, 5, 4), torch.randn(6, 4, 5).mT
    k, v, beta = torch.randn(6, 5), torch.randn(6, 4), torch.rand(6, 1)
    assert delta_update(x_DV, k, v, beta).stride() == x_DV.stride()
    assert delta_update(x_VD, k, v, beta).stride() == x_VD.stride()


def test_vector_and_matrix_forms_agree() -> None:
    x, k, v, beta = torch.randn(6, 5), torch.randn(6, 5), torch.randn(6, 1), torch.rand(6)
    assert torch.equal(delta_update(x, k, v, beta), delta_update(x.unsqueeze(-1), k, v, beta.unsqueeze(-1)).squeeze(-1))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 3), (5,), (3,), (1,)), "share D"),
        (((5, 3), (5,), (2,), (1,)), "V = 3"),
        (((5, 3), (5,), (3,), (2,)), "beta must be"),
        (((2, 5, 3), (5,), (3,), (1,)), "x must be"),
        (((2, 5, 3), (3, 5), (2, 3), (2, 1)), "must broadcast"),
        (((5, 0), (5,), (0,), (1,)), "at least 1"),
    ],
    ids=lambda value: str(value),
)
def test_shapes_that_do_not_fit_are_named(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delta_update(*(torch.ones(shape) for shape in shapes))


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="k must be a floating-point"):
        delta_update(torch.ones(3, 2), torch.ones(3, dtype=torch.int64), torch.ones(2), torch.ones(1))


def test_an_unknown_backend_is_refused_and_auto_explains_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 2)
    with pytest.raises(BackendError, match="there are auto, reference, triton, fused"):
        delta_update(x, torch.randn(3), torch.randn(2), torch.ones(1), backend="magic")
    assert explain_delta_update(x).backend.name == "fused"
    assert "eager" in explain_delta_update(x).reason
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    assert explain_delta_update(x).backend.name == "reference"
    assert explain_delta_update(x, "fused").backend.name == "fused"


def test_the_custom_ops_keep_pytorchs_contract() -> None:
    inputs = [torch.randn(2, 4, 3), torch.randn(2, 4), torch.randn(2, 3), torch.rand(2, 1)]
    for tensor in inputs:
        tensor.requires_grad_()
    torch.library.opcheck(torch.ops.deep_delta.delta_update.default, (*inputs, True, 1e-6, "fused"))
    transposed = [inputs[0].detach().mT.contiguous().mT.requires_grad_(), *inputs[1:]]
    torch.library.opcheck(torch.ops.deep_delta.delta_update.default, (*transposed, False, 1e-6, "fused"))


@pytest.mark.parametrize("wide", range(4))
@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16], ids=str)
def test_the_custom_ops_promise_the_types_that_they_return(narrow: torch.dtype, wide: int) -> None:
    inputs = [torch.randn(2, 4, 3), torch.randn(2, 4), torch.randn(2, 3), torch.rand(2, 1)]
    inputs = [x.to(torch.float64 if place == wide else narrow).requires_grad_() for place, x in enumerate(inputs)]
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    options = (True, 1e-6, "fused")
    torch.library.opcheck(torch.ops.deep_delta.delta_update.default, (*inputs, *options), test_utils=checks)
    x, k, v, beta = (x.detach() for x in inputs)
    out, error = torch.ops.deep_delta.delta_update(x, k, v, beta, *options)
    arguments = (torch.randn_like(out), x, k, beta, error, *options)
    torch.library.opcheck(torch.ops.deep_delta.delta_update_backward.default, arguments, test_utils=checks[:2])


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("wide", range(4))
def test_the_widest_operand_decides_the_precision(backend: str, wide: int) -> None:
    torch.manual_seed(4)
    inputs = [torch.randn(4, 6, 3), torch.randn(4, 6), torch.randn(4, 3), torch.rand(4, 1)]
    exact = [x.double() for x in inputs]
    inputs[wide] = exact[wide]
    tolerance = 1e-15 if wide == 0 else 1e-7  # the result has the state's type
    assert relative_error(delta_update(*inputs, backend=backend), reference.delta_update(*exact)) < tolerance
    assert relative_error(delta_operator(inputs[1], exact[3]), delta_operator(exact[1], exact[3])) < 1e-15


def test_a_kernel_in_fp32_is_not_taken_for_an_operand_in_fp64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_kernels, "interpreted", lambda: True)
    monkeypatch.setattr(device_kernels, "_HAVE_TRITON", True)
    x, k, v, beta = torch.randn(4, 6, 3), torch.randn(4, 6).double(), torch.randn(4, 3), torch.rand(4, 1)
    assert explain_delta_update(x, "triton").backend.name == "triton"
    with pytest.raises(BackendError, match=r"computes in fp32, which is not enough for torch\.float64"):
        delta_update(x, k, v, beta, backend="triton")
    assert delta_update(x, 1e300 * k, v, beta).isfinite().all()


@pytest.mark.parametrize("backend", ["auto", "fused"])
def test_it_compiles_into_one_graph(backend: str) -> None:
    inputs = [torch.randn(2, 4, 3), torch.randn(2, 4), torch.randn(2, 3), torch.rand(2, 1)]
    for tensor in inputs:
        tensor.requires_grad_()
    compiled = torch.compile(
        lambda *tensors: delta_update(*tensors, backend=backend), fullgraph=True, backend="aot_eager"
    )
    out, expected = compiled(*inputs), reference.delta_update(*inputs)
    assert relative_error(out, expected) < 5e-6
    for a, b in zip(
        torch.autograd.grad(out.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        assert relative_error(a, b) < 5e-6


def test_the_dense_operator_is_what_the_update_applies() -> None:
    torch.manual_seed(3)
    x, k, beta = torch.randn(4, 6, 2), torch.randn(4, 6), 2 * torch.rand(4, 1)
    applied = delta_operator(k, beta) @ x
    assert relative_error(delta_update(x, k, torch.zeros(4, 2), beta), applied) < 5e-6
    with pytest.raises(ValueError, match="beta must be"):
        delta_operator(k, torch.rand(4, 2))
    wide = [x.double().requires_grad_() for x in (k, beta)]
    assert torch.autograd.gradgradcheck(delta_operator, wide)


def test_direction_is_a_unit_vector_of_the_same_heading() -> None:
    k = torch.randn(8, 5, dtype=torch.float64)
    unit = normalize_direction(k)
    assert torch.allclose(unit.norm(dim=-1), torch.ones(8, dtype=torch.float64), atol=1e-11)
    assert torch.allclose(unit * k.norm(dim=-1, keepdim=True), k, atol=1e-10)


@pytest.mark.parametrize("place", range(4))
def test_tensors_on_two_devices_are_refused(place: int) -> None:
    arguments = [torch.ones(2, 6, 3), torch.ones(2, 6), torch.ones(2, 3), torch.ones(2, 1)]
    arguments[place] = arguments[place].to("meta")
    with pytest.raises(ValueError, match=r"on one device, got .* on meta"):
        delta_update(*arguments)
