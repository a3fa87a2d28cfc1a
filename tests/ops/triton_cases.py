"""The Triton kernels against the definitions: run by test_triton.py, in a process of its own.

Without a GPU that process has TRITON_INTERPRET=1, which Triton reads when it is imported, and the kernels run on CPU
tensors. There a bf16 result is truncated where a device rounds: it has its own row in the table of tolerances.
"""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from deep_delta.errors import BackendError
from deep_delta.ops import delta_update
from deep_delta.ops.depth_update import explain_delta_update, reference
from deep_delta.ops.device_kernels import interpreted
from deep_delta.ops.stream_step import StepOutput, explain_stream_step, stream_step
from tests.ops.test_depth_update import Case, draw_case, gradients
from tests.tolerances import TOLERANCE, relative_error

ON_GPU = not interpreted()
"""The interpreter is some thousand times slower, and gets fewer cases where there are many."""
DEVICE = "cuda" if ON_GPU else "cpu"
ROW = "triton, interpreted" if interpreted() else "triton"
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
UPDATE = importlib.import_module("deep_delta.ops.depth_update.triton")
STEP = importlib.import_module("deep_delta.ops.stream_step.triton")
pytestmark = pytest.mark.usefixtures("poisoned_memory")


def check_updates(seeds: range, dtype: torch.dtype, most_tokens: int) -> None:
    for seed in seeds:
        case = draw_case(seed, dtype)
        if case.grad.numel() > most_tokens * case.v.shape[-1] * case.k.shape[-1]:
            continue  # the interpreter takes milliseconds a token
        here = [tensor.to(DEVICE).detach().requires_grad_() for tensor in case[:4]]
        out = delta_update(*here, backend="triton")
        actual = (out, *torch.autograd.grad(out, here, case.grad.to(DEVICE)))
        expected = gradients(Case(*(tensor.double() for tensor in case)), "reference", torch.float64)
        assert out.dtype == dtype
        for name, a, b in zip(("out", "x", "k", "v", "beta"), actual, expected, strict=True):
            if name == "k":  # the slope grows as 1/‖k‖, and its rounding with it
                length = case.k.double().norm(dim=-1, keepdim=True)
                a, b = a.cpu() * length, b * length
            error = relative_error(a.cpu(), b, least=1.0)
            assert error <= TOLERANCE[dtype, ROW], f"seed {seed}, {name}: {error:.2e}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_update_and_every_gradient(dtype: torch.dtype) -> None:
    check_updates(range(16), dtype, most_tokens=4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_update_and_every_gradient_many_times(dtype: torch.dtype) -> None:
    check_updates(range(500 if ON_GPU else 150), dtype, most_tokens=125)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_state_too_wide_for_registers(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UPDATE, "_TILE", 64)
    check_updates(range(20, 40 if dtype is torch.float32 else 28), dtype, most_tokens=1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("tile", [16384, 32])
def test_a_direction_taken_as_it_is(normalize: bool, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UPDATE, "_TILE", tile)
    torch.manual_seed(0)
    inputs = [torch.randn(3, 20, 3), 0.3 * torch.randn(3, 20), torch.randn(3, 3), 2 * torch.rand(3, 1)]
    found = []
    for device, backend in ((DEVICE, "triton"), ("cpu", "reference")):
        here = [tensor.to(device).requires_grad_() for tensor in (one.detach().clone() for one in inputs)]
        out = delta_update(*here, normalize=normalize, eps=1e-2, backend=backend)
        found.append((out, *torch.autograd.grad(out.sum(), here)))
    for a, b in zip(*found, strict=True):
        assert relative_error(a.cpu(), b) < TOLERANCE[torch.float32, ROW]


@pytest.mark.parametrize(
    ("size", "tile"), [(0.0, 16384), (1e-20, 16384), (1e-6, 16384), (1.0, 16384), (1e20, 16384), (0.0, 32), (1e20, 32)]
)
def test_any_size_of_direction(size: float, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UPDATE, "_TILE", tile)
    torch.manual_seed(2)
    for dtype in DTYPES:
        k = (min(size, 1e4 if dtype is torch.float16 else size) * torch.randn(2, 16, dtype=torch.float64)).to(dtype)
        inputs = [torch.randn(2, 16, 3), k, torch.randn(2, 3), 2 * torch.rand(2, 1)]
        here = [tensor.to(DEVICE).detach().clone().requires_grad_() for tensor in inputs]
        exact = [tensor.double().requires_grad_() for tensor in inputs]
        out, expected = delta_update(*here, backend="triton"), reference.delta_update(*exact)
        assert relative_error(out.cpu(), expected) < 1e-5
        out.sum().backward()
        expected.sum().backward()
        for name, a, b in zip(("x", "k", "v", "beta"), here, exact, strict=True):
            assert a.grad.isfinite().all(), name
            if name != "k" or dtype is not torch.float16:
                tolerance = TOLERANCE[dtype, ROW] if name == "k" else 1e-5
                assert relative_error(a.grad.cpu(), b.grad) < tolerance, name


def test_the_layout_of_the_state_is_kept() -> None:
    k, v, beta = torch.randn(6, 5, device=DEVICE), torch.randn(6, 4, device=DEVICE), torch.rand(6, 1, device=DEVICE)
    for x in (torch.randn(6, 5, 4, device=DEVICE), torch.randn(6, 4, 5, device=DEVICE).mT):
        assert delta_update(x, k, v, beta, backend="triton").stride() == x.stride()


def test_the_custom_op_keeps_pytorchs_contract_and_compiles_into_one_graph() -> None:
    inputs = [torch.randn(2, 4, 3), torch.randn(2, 4), torch.randn(2, 3), torch.rand(2, 1)]
    here = [tensor.to(DEVICE).requires_grad_() for tensor in inputs]
    torch.library.opcheck(torch.ops.deep_delta.delta_update.default, (*here, True, 1e-6, "triton"))
    compiled = torch.compile(lambda *a: delta_update(*a, backend="triton"), fullgraph=True, backend="aot_eager")
    out, expected = compiled(*here), reference.delta_update(*here)
    assert relative_error(out, expected) < 5e-6


def test_what_the_kernels_cannot_take_is_refused_with_the_reason() -> None:
    x = torch.randn(2, 5, 9, device=DEVICE)
    with pytest.raises(BackendError, match="8 value channels at most"):
        delta_update(x, x[..., 0], x[:, 0], x[:, 0, :1], backend="triton")
    with pytest.raises(BackendError, match="float64"):
        explain_delta_update(x[..., :2].double(), "triton")
    with pytest.raises(BackendError, match="float64"):
        explain_stream_step(x[None, ..., :2].mT.double(), "triton")
    x, k = torch.randn(1, 2, 1, 5, device=DEVICE), torch.randn(1, 2, 5, dtype=torch.float64, device=DEVICE)
    with pytest.raises(BackendError, match="an operand is torch"):
        stream_step(x, k, None, None, None, torch.ones(5, device=DEVICE), backend="triton")
    vector = torch.randn(3, 20, device=DEVICE)  # one value channel, not twenty
    assert delta_update(vector, vector, vector[:, :1], vector[:, 0], backend="triton").shape == vector.shape


class StepShape(NamedTuple):
    """Sizes of a boundary step; S = 0 reads the one channel as it is, P = 0 projects nothing."""

    B: int
    T: int
    V: int
    D: int
    S: int
    P: int


SHAPES = [
    StepShape(2, 5, 1, 7, 0, 0),
    StepShape(2, 4, 1, 16, 0, 2),
    StepShape(1, 5, 4, 33, 1, 5),
    StepShape(2, 1, 3, 16, 1, 4),
    StepShape(2, 4, 4, 20, 4, 5),
    StepShape(1, 2, 3, 5, 4, 1),
    StepShape(1, 7, 2, 24, 2, 16),
    StepShape(1, 5, 8, 16, 3, 9),
    StepShape(1, 2, 2, 1, 1, 1),  # one width: what RMSNorm and the direction pass on is all but nothing
]
ODD_SHAPES = [
    StepShape(1 + n % 3, 1 + 5 * n % 11, 1 + n % 8, (6, 3, 17, 40, 64)[n % 5], 1 + n % 5, n % 17) for n in range(30)
]
NORM_EPS = 0.1  # keeps the norm from magnifying what rounding does to reads near zero
KINDS = ["delta", "write_only", "additive"]
NAMES = ("state", "k", "v", "beta", "read", "gain", "heads", "gate", "gate_bias")


def gateless(shape: StepShape) -> bool:
    """Every third number of heads goes without a gate."""
    return shape.P % 3 == 0


def draw_step(shape: StepShape, kind: str, dtype: torch.dtype, seed: int = 0) -> list[Tensor | None]:
    """Operands in the order of `stream_step`; the weights stay fp32, as a model's do."""
    B, T, V, D, S, P = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(dtype)

    is_additive = kind == "additive"
    return [
        normal(B, T, V, D),
        normal(B, T, D),
        None if is_additive else normal(B, T, V),
        None if is_additive else (2 * torch.rand(B, T, 1, generator=generator)).to(dtype),
        normal(S, V, D).float() if S else None,
        1 + 0.1 * normal(D).float(),
        normal(P, D).float() if P else None,
        *((None, None) if gateless(shape) else (normal(1, D).float(), normal(1).float())),
    ]


def run_step(
    operands: list[Tensor | None], kind: str, backend: str, which: tuple[str, ...], seed: int = 1
) -> dict[str, Tensor]:
    """The outputs and each gradient of Σ output · random, over the outputs in `which`."""
    leaves = [None if one is None else one.detach().clone().requires_grad_() for one in operands]
    out = stream_step(*leaves, erase=kind != "write_only", norm_eps=NORM_EPS, backend=backend)
    made = {name: tensor for name, tensor in out._asdict().items() if name in which and tensor is not None}
    generator = torch.Generator().manual_seed(seed)
    pulls = [torch.randn(one.shape, generator=generator).to(one) for one in made.values()]
    present = [leaf for leaf in leaves if leaf is not None]
    grads = torch.autograd.grad(list(made.values()), present, pulls, allow_unused=True)
    found = dict(zip([name for name, leaf in zip(NAMES, leaves, strict=True) if leaf is not None], grads, strict=True))
    return made | {f"d{name}": grad for name, grad in found.items() if grad is not None}


def check_step(
    shape: StepShape, kind: str, dtype: torch.dtype, which: tuple[str, ...] = ("state", "x", "c", "scores", "gates")
) -> None:
    if kind == "additive":
        shape = shape._replace(V=1)
    operands = draw_step(shape, kind, dtype)
    actual = run_step([None if one is None else one.to(DEVICE) for one in operands], kind, "triton", which)
    expected = run_step([None if one is None else one.double() for one in operands], kind, "reference", which)
    terms = max([1.0, *(value.abs().max().item() for name, value in expected.items() if name.startswith("d"))])
    for name, value in expected.items():
        found = actual[name]
        assert found.dtype == (dtype if name in ("state", "x", "c", "dstate", "dk", "dv", "dbeta") else torch.float32)
        least = terms if name == "dk" else 1.0  # along k the terms cancel: all of them where D = 1
        error = relative_error(found.cpu(), value, least=least)
        assert error <= TOLERANCE[dtype, ROW], f"{shape}, {name}: {error:.2e}"


@pytest.fixture
def short_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tokens a program, so that reads reach across tiles."""
    monkeypatch.setattr(STEP, "_SHORTEST_TILE", 3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("short_tiles")
def test_the_step_and_every_gradient(kind: str, dtype: torch.dtype) -> None:
    shapes = {torch.float32: SHAPES if kind == "delta" else SHAPES[1:6:2]}
    for shape in shapes.get(dtype, SHAPES[5:6]):
        check_step(shape, kind, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_step_and_every_gradient_in_odd_shapes(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, shape in enumerate(ODD_SHAPES[: None if ON_GPU else 12]):
        monkeypatch.setattr(STEP, "_SHORTEST_TILE", (1, 3, 16)[number % 3])
        check_step(shape, kind, dtype)


@pytest.mark.parametrize("which", [("state",), ("x",), ("c",), ("scores",), ("gates",), ("c", "scores")], ids="+".join)
def test_a_gradient_from_some_outputs_only(which: tuple[str, ...]) -> None:
    check_step(SHAPES[5], "delta", torch.float32, which)


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e20])
def test_any_size_of_direction_in_a_step(size: float) -> None:
    operands = draw_step(SHAPES[2], "delta", torch.float32)
    assert operands[1] is not None
    operands[1] = operands[1] * size
    which = ("state", "c", "scores", "gates")
    actual = run_step([None if one is None else one.to(DEVICE) for one in operands], "delta", "triton", which)
    expected = run_step([None if one is None else one.double() for one in operands], "delta", "reference", which)
    for name, value in expected.items():
        assert relative_error(actual[name].cpu(), value) < 1e-5, name


@pytest.mark.parametrize(("kind", "taps"), [("delta", 1), ("delta", 3), ("write_only", 1)])
@pytest.mark.usefixtures("short_tiles")
def test_a_chain_of_steps_with_rebuilt_states(kind: str, taps: int) -> None:
    """Three steps, each keeping no state but the last; gradients as those of the definition, which stores them all."""
    shape = StepShape(1, 4, 4, 20, taps, 5)

    def chain(backend: str, device: str, dtype: torch.dtype) -> list[Tensor]:
        steps = [[one.to(device, dtype).requires_grad_() for one in draw_step(shape, kind, torch.float32, n)]
                 for n in range(3)]  # fmt: skip
        state, loss = steps[0][0], torch.zeros((), device=device, dtype=dtype)
        out: StepOutput | None = None
        for n, (_, *rest) in enumerate(steps):
            carry = None if out is None else out.carry
            out = stream_step(
                state, *rest, erase=kind == "delta", carry=carry, keep=backend == "reference" or n == 2, backend=backend
            )
            added = out.c.square().sum() + (0.1 * out.scores).square().sum() + out.gates.square().sum()
            state, loss = out.state, loss + added
        leaves = [one for n, step in enumerate(steps) for one in (step if n == 0 else step[1:])]
        return [one.cpu() for one in torch.autograd.grad(loss + state.square().sum(), leaves)]

    actual, expected = chain("triton", DEVICE, torch.float32), chain("reference", "cpu", torch.float64)
    for a, b in zip(actual, expected, strict=True):
        assert relative_error(a, b) < 2e-5


@pytest.mark.usefixtures("short_tiles")
def test_equal_inputs_give_equal_bits() -> None:
    operands = [None if one is None else one.to(DEVICE) for one in draw_step(SHAPES[6], "delta", torch.bfloat16)]
    first, second = (run_step(operands, "delta", "triton", ("state", "x", "c", "scores", "gates")) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.usefixtures("short_tiles")
def test_a_token_sees_nothing_of_those_after_it() -> None:
    operands = [None if one is None else one.to(DEVICE) for one in draw_step(SHAPES[4], "delta", torch.float32)]
    before = stream_step(*operands, backend="triton")
    assert operands[0] is not None
    operands[0][:, 2:] += 1.0
    after = stream_step(*operands, backend="triton")
    for a, b in zip(before[:5], after[:5], strict=True):
        assert torch.equal(a[:, :2], b[:, :2])
        assert not torch.equal(a[:, 2:], b[:, 2:])


@pytest.mark.usefixtures("short_tiles")
def test_strided_operands_and_expanded_gradients() -> None:
    plain = [one.to(DEVICE) for one in draw_step(SHAPES[6], "delta", torch.float32) if one is not None]
    strided = [torch.stack((one, one), -1)[..., 0] for one in plain]
    found = []
    for operands in (plain, strided):
        leaves = [one.detach().requires_grad_() for one in operands]
        out = stream_step(*leaves, backend="triton")
        found.append(torch.autograd.grad(sum(one.sum() for one in out[:5]), leaves))
    assert not strided[0].is_contiguous()
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_the_step_op_keeps_pytorchs_contract() -> None:
    for shape, kind in ((StepShape(1, 2, 2, 5, 2, 3), "delta"), (StepShape(1, 2, 1, 5, 0, 0), "additive")):
        operands = [None if one is None else one.to(DEVICE) for one in draw_step(shape, kind, torch.float32)]
        operands = [None if one is None else one.requires_grad_() for one in operands]
        arguments = (*operands, None, kind == "delta", 1e-6, 1e-5, True, "triton")
        torch.library.opcheck(torch.ops.deep_delta.stream_step.default, arguments)


@pytest.fixture(autouse=True)
def one_device() -> Iterator[None]:
    """Results are compared on the CPU; a device's own work is waited for, so that its errors show in the right test."""
    yield
    if ON_GPU:
        torch.cuda.synchronize()
