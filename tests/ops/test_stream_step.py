"""Every backend of the boundary step against the definition in fp64, and the contract of the public function."""

# B batch, T time, V value channels, D width, S taps, P heads

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from deep_delta.errors import BackendError
from deep_delta.ops import delta_update
from deep_delta.ops.stream_step import BACKENDS, continue_step, explain_stream_step, stream_step
from tests.threads import num_threads
from tests.tolerances import TOLERANCE, relative_error

NAMES = [backend.name for backend in BACKENDS if backend.name != "compiled"]  # the eager one, after a long wait
HAND_WRITTEN = [name for name in NAMES if name != "reference"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


class Case(NamedTuple):
    """Operands, by name, the upstream gradients of the five results (None for some), and whether it erases."""

    operands: dict[str, Tensor]
    grads: list[Tensor | None]
    erase: bool


def available(name: str, dtype: torch.dtype) -> str:
    backend = next(backend for backend in BACKENDS if backend.name == name)
    if reason := backend.unavailable(torch.zeros(1, 1, 1, 1, dtype=dtype)):
        pytest.skip(f"{name}: {reason}")
    return name


def draw_case(seed: int, dtype: torch.dtype = torch.float32) -> Case:
    """Odd sizes of every kind; strided, transposed and expanded storage; gradients that do not exist.

    Small widths are left to the wider precisions: normalising two rounded numbers is all cancellation.
    """
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    B, T, P = rng.choice([1, 2, 3]), rng.choice([1, 2, 5, 9]), rng.choice([0, 1, 5])
    least = {torch.float64: 2, torch.float32: 7, torch.bfloat16: 16}[dtype]
    D = max(least, rng.choice([2, 5, 16, 33, 70]))
    kind = rng.choice(["delta", "delta", "write_only", "additive"])
    V = 1 if kind == "additive" else rng.choice([1, 2, 3, 4, 5, 8])
    S = rng.choice([0, 1, 4]) if V == 1 else rng.choice([1, 1, 2, 4])

    def draw(*shape: int) -> Tensor:
        style = rng.choice(["plain", "plain", "transposed", "strided", "expanded"])
        if style == "transposed" and len(shape) > 1:
            swapped = torch.randn(*shape[:-2], shape[-1], shape[-2], generator=generator, dtype=torch.float64)
            return swapped.mT
        if style == "strided":
            return torch.randn(*shape[:-1], 2 * shape[-1], generator=generator, dtype=torch.float64)[..., ::2]
        if style == "expanded":
            return torch.randn(1, *shape[1:], generator=generator, dtype=torch.float64).expand(shape)
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    operands = {"state": draw(B, T, V, D), "k": draw(B, T, D), "gain": draw(D)}
    if kind != "additive":
        operands |= {"v": draw(B, T, V), "beta": 2 * draw(B, T, 1).sigmoid()}
    if S:
        operands["read"] = draw(S, V, D)
    if P:
        operands["heads"] = draw(P, D)
    if rng.random() < 0.6:
        operands |= {"gate": draw(1, D), "gate_bias": draw(1)}
    shapes = [(B, T, V, D), (B, T, D), (B, T, D), (B, T, P), (B, T, 1)]
    grads = [draw(*shape) if rng.random() < 0.8 else None for shape in shapes]
    if all(grad is None for grad in grads[:3]):
        grads[2] = draw(B, T, D)
    return Case(operands, grads, kind != "write_only")


def run(case: Case, backend: str, dtype: torch.dtype, **options: Any) -> list[Tensor]:
    """Outputs, then the gradient of every operand."""
    operands = {name: tensor.to(dtype).detach().requires_grad_() for name, tensor in case.operands.items()}
    all_operands = {"v": None, "beta": None, "read": None, **operands}
    out = stream_step(**all_operands, erase=case.erase, backend=backend, **options)
    assert (out.state.dtype, out.x.dtype, out.c.dtype) == (dtype,) * 3
    pairs = [(o, g.to(o.dtype)) for o, g in zip(out[:5], case.grads, strict=True) if o is not None and g is not None]
    gradients = torch.autograd.grad(
        [o for o, _ in pairs], list(operands.values()), [g for _, g in pairs], materialize_grads=True
    )
    for operand, gradient in zip(operands.values(), gradients, strict=True):
        assert gradient.dtype == operand.dtype
    return [*(o for o in out[:5] if o is not None), *gradients]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.usefixtures("poisoned_memory")
def test_outputs_and_every_gradient_match_the_definition(backend: str, dtype: torch.dtype) -> None:
    available(backend, dtype)
    for seed in range(500):
        case = draw_case(seed, dtype)
        if dtype == torch.bfloat16 and backend != "reference":  # the state is read as it was rounded: compare alike
            oracle = run(case, "reference", dtype)
        else:
            operands = {name: tensor.to(dtype).double() for name, tensor in case.operands.items()}
            oracle = run(case._replace(operands=operands), "reference", torch.float64)
        pairs = list(zip(run(case, backend, dtype), oracle, strict=True))
        if dtype == torch.bfloat16 and backend == "reference":  # its gradients are what others are measured by
            pairs = pairs[: -len(case.operands)]
        for index, (actual, expected) in enumerate(pairs):
            assert relative_error(actual, expected, least=1.0) <= TOLERANCE[dtype, backend], (seed, index)


@pytest.mark.parametrize("backend", HAND_WRITTEN)
def test_no_gradient_is_materialised_for_what_is_not_used(backend: str) -> None:
    available(backend, torch.float32)
    state, k = torch.randn(1, 2, 1, 4), torch.randn(1, 2, 4, requires_grad=True)
    out = stream_step(state, k, None, None, None, torch.ones(4), backend=backend)
    assert out.scores is None
    assert torch.autograd.grad(out.x.sum(), k)[0].equal(torch.ones_like(k))


@pytest.mark.parametrize("shape", [(1, 1, 1, 3, 0), (2, 3, 2, 4, 1), (1, 5, 3, 4, 4), (1, 2, 4, 3, 4)], ids=str)
@pytest.mark.parametrize("erase", [True, False])
@pytest.mark.parametrize("logit", [-20.0, 0.3, 20.0])
def test_the_eager_backward_is_the_derivative(shape: tuple[int, ...], erase: bool, logit: float) -> None:
    B, T, V, D, S = shape
    generator = torch.Generator().manual_seed(1)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True)

    beta = torch.full((B, T, 1), logit, dtype=torch.float64).sigmoid().mul(2).requires_grad_()

    def step(*operands: Tensor) -> tuple[Tensor, ...]:
        state, k, v, beta, *weights, read = operands
        out = stream_step(state, k, v, beta, read if S else None, *weights, erase=erase, backend="eager")
        return tuple(o for o in out[:5] if o is not None)

    operands = [draw(B, T, V, D), draw(B, T, D), draw(B, T, V), beta, draw(D), draw(2, D), draw(1, D), draw(1)]
    assert torch.autograd.gradcheck(step, [*operands, draw(max(S, 1), V, D)], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("entry", [0.0, 1e-20, 1e20])
def test_any_direction_is_a_direction(backend: str, entry: float) -> None:
    available(backend, torch.float32)
    k = torch.randn(1, 3, 8).sign() * entry
    operands = {"state": torch.randn(1, 3, 2, 8), "v": torch.randn(1, 3, 2), "beta": torch.ones(1, 3, 1)}
    results = []
    for name, dtype in ((backend, torch.float32), ("reference", torch.float64)):
        inputs = {n: t.to(dtype).requires_grad_() for n, t in operands.items()}
        direction = k.to(dtype).requires_grad_()
        out = stream_step(
            k=direction, **inputs, read=torch.ones(1, 2, 8, dtype=dtype), gain=torch.ones(8, dtype=dtype), eps=1e-6,
            backend=name,
        )  # fmt: skip
        (grad,) = torch.autograd.grad(out.state.square().sum() + out.c.sum(), direction)
        results.append((out.state, out.c, grad))
    for actual, expected in zip(*results, strict=True):
        assert actual.isfinite().all()
        assert relative_error(actual, expected) <= 1e-5 or (expected.abs().max() < 1e-15 and actual.abs().max() < 1e-15)


def chain(backend: str, keep: bool, operands: dict[str, Tensor], num_steps: int = 5) -> Tensor:
    """Several steps, each taking its direction and gate from the one before; only the last keeps its state."""
    state, k, beta, carry = operands["state"], operands["k"], operands["beta"], None
    total = torch.zeros(())
    for index in range(num_steps):
        out = stream_step(
            state, k, operands["v"], beta, operands["read"], operands["gain"], operands["heads"],
            operands["gate"], operands["gate_bias"], carry=carry, keep=keep or index == num_steps - 1, backend=backend,
        )  # fmt: skip
        state, k, beta, carry = out.state, out.c, out.gates, out.carry
        assert out.scores is not None
        total = total + out.scores.square().sum()
    return total + state.square().sum()


def chain_operands(dtype: torch.dtype = torch.float32, S: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "state": (2, 6, 4, 16),
        "k": (2, 6, 16),
        "v": (2, 6, 4),
        "read": (S, 4, 16),
        "gain": (16,),
        "heads": (5, 16),
        "gate": (1, 16),
        "gate_bias": (1,),
    }
    operands = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    operands["beta"] = torch.rand(2, 6, 1, generator=generator) * 2
    return {name: tensor.requires_grad_() for name, tensor in operands.items()}


@pytest.mark.parametrize("backend", HAND_WRITTEN)
@pytest.mark.parametrize("S", [1, 4])
def test_rebuilt_states_give_the_gradients_of_stored_ones(backend: str, S: int) -> None:
    available(backend, torch.float32)
    operands = chain_operands(S=S)
    stored = torch.autograd.grad(chain(backend, True, operands), list(operands.values()))
    rebuilt_loss = chain(backend, False, operands)
    for turn in range(2):  # a kept graph can be walked again
        rebuilt = torch.autograd.grad(rebuilt_loss, list(operands.values()), retain_graph=turn == 0)
        for actual, expected in zip(rebuilt, stored, strict=True):
            assert relative_error(actual, expected) <= 1e-5


@pytest.mark.parametrize("backend", HAND_WRITTEN)
def test_rebuilding_keeps_one_state_however_many_steps(backend: str) -> None:
    available(backend, torch.float32)
    operands = chain_operands()
    states = operands["state"].numel()

    def saved_states(keep: bool, num_steps: int) -> int:
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.numel() == states and tensor.untyped_storage().nbytes() >= 4 * states:
                found[tensor.data_ptr()] = 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = chain(backend, keep, operands, num_steps)
        del loss
        return len(found)

    assert saved_states(True, 6) - saved_states(True, 3) == 3
    assert saved_states(False, 6) == saved_states(False, 3)


@pytest.mark.parametrize("S", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Inductor's own
def test_compiled_regions_equal_the_eager_step(S: int) -> None:
    available("compiled", torch.float32)
    operands = chain_operands(S=S)
    expected = torch.autograd.grad(chain("eager", False, operands), list(operands.values()))
    for actual, wanted in zip(
        torch.autograd.grad(chain("compiled", False, operands), list(operands.values())), expected, strict=True
    ):
        assert relative_error(actual, wanted) <= 1e-5


def test_an_inner_state_cannot_be_differentiated_without_the_last() -> None:
    operands = chain_operands()
    step = stream_step(**operands, keep=False, backend="eager")
    stream_step(**{**operands, "state": step.state}, carry=step.carry, backend="eager")
    with pytest.raises(RuntimeError, match="state_storage stored"):
        torch.autograd.grad(step.state.sum(), operands["k"])


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("keep", [True, False])
def test_one_compiled_graph(backend: str, keep: bool) -> None:
    available(backend, torch.float32)
    operands = chain_operands()
    eager = torch.autograd.grad(chain(backend, keep, operands, 2), list(operands.values()))
    compiled = torch.compile(chain, fullgraph=True, backend="aot_eager")
    for actual, expected in zip(
        torch.autograd.grad(compiled(backend, keep, operands, 2), list(operands.values())), eager, strict=True
    ):
        assert relative_error(actual, expected) <= 1e-5


@pytest.mark.parametrize("backend", HAND_WRITTEN)
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_sequences_without_a_seam(backend: str, threads: int) -> None:
    available(backend, torch.float32)
    for seed in range(40):
        case = draw_case(seed)
        with num_threads(1):
            alone = run(case, backend, torch.float32)
        with num_threads(threads):
            together = run(case, backend, torch.float32)
        for actual, expected in zip(together, alone, strict=True):
            assert relative_error(actual, expected, least=1.0) <= 1e-6


@pytest.mark.parametrize("backend", NAMES)
def test_autocast_does_not_reach_inside(backend: str) -> None:
    available(backend, torch.float32)
    operands = chain_operands()
    expected = stream_step(**operands, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        found = stream_step(**operands, backend=backend)
    for actual, wanted in zip(found[:5], expected[:5], strict=True):
        assert actual.equal(wanted)


def test_its_parts_are_the_operators_of_their_names() -> None:
    operands = chain_operands(S=4)
    out = stream_step(**operands)
    state = delta_update(operands["state"].mT, operands["k"], operands["v"], operands["beta"]).mT
    assert torch.allclose(out.state, state, atol=1e-5)
    x = sum(
        (torch.nn.functional.pad(state, (0, 0, 0, 0, 3 - s, 0))[:, :6] * operands["read"][s]).sum(2) for s in range(4)
    )
    assert torch.allclose(out.x, x, atol=1e-5)
    assert torch.allclose(out.c, x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * operands["gain"], atol=1e-5)
    assert torch.allclose(out.scores, out.c @ operands["heads"].mT, atol=1e-4)
    logits = out.c @ operands["gate"].mT + operands["gate_bias"]
    assert torch.allclose(out.gates, 2 * logits.sigmoid(), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(2, 4, 16)}, r"state must be \[B, T, V, D\].*\(2, 4, 16\)"),
        ({"k": torch.zeros(2, 6, 15)}, r"k must be \(2, 6, 16\).*\(2, 6, 15\)"),
        ({"v": None}, "v and beta come together"),
        ({"v": None, "beta": None}, "an additive step has one value channel"),
        ({"v": torch.zeros(2, 6, 3)}, r"v must be \(2, 6, 4\)"),
        ({"beta": torch.zeros(2, 6)}, r"beta must be \(2, 6, 1\)"),
        ({"read": None}, "4 value channels needs a read weight"),
        ({"read": torch.zeros(0, 4, 16)}, "read must be"),
        ({"gain": torch.zeros(4)}, r"gain must be \(16,\)"),
        ({"heads": torch.zeros(0, 16)}, "heads must be"),
        ({"gate": torch.zeros(2, 16)}, r"gate must be \(1, 16\).*\(2, 16\)"),
        ({"gate_bias": torch.zeros(2)}, r"gate_bias must be \(1,\)"),
        ({"gate": None}, "gate and gate_bias come together"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Tensor | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream_step(**{**chain_operands(), **change})


def test_integers_and_unknown_backends_are_refused() -> None:
    with pytest.raises(TypeError, match="k must be a floating-point tensor"):
        stream_step(**{**chain_operands(), "k": torch.zeros(2, 6, 16, dtype=torch.int64)})
    with pytest.raises(BackendError, match="unknown backend 'fast' of stream_step"):
        stream_step(**chain_operands(), backend="fast")
    assert explain_stream_step(torch.zeros(1, 1, 1, 4, dtype=torch.float64)).backend.name == "eager"


def test_the_op_keeps_its_promises_to_the_compiler() -> None:
    operands = chain_operands(S=4)
    tensors = [operands[name] for name in ("state", "k", "v", "beta", "read", "gain", "heads", "gate", "gate_bias")]
    torch.library.opcheck(
        torch.ops.deep_delta.stream_step.default,
        (*tensors, None, True, 1e-6, 1e-5, True, "eager"),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )  # fmt: skip


@pytest.mark.parametrize("native", [True, False], ids=["native", "plain"])
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("pieces", [[1] * 9, [9], [2, 1, 5, 1], [4, 5]], ids=str)
@pytest.mark.usefixtures("poisoned_memory")
@torch.no_grad()
def test_a_step_in_pieces_is_the_whole_step(
    pieces: list[int], dtype: torch.dtype, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads of every length over a text that comes in pieces, some shorter than the read."""
    if not native:
        monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    for S, V, erase in ((2, 3, True), (4, 4, True), (4, 2, False), (12, 1, True)):
        generator = torch.Generator().manual_seed(S)
        shapes = {"state": (2, 9, V, 33), "k": (2, 9, 33), "v": (2, 9, V), "beta": (2, 9, 1)}
        moving = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
        shapes_of_weights = ((S, V, 33), (33,), (5, 33), (1, 33), (1,))
        weights = [torch.randn(shape, generator=generator) for shape in shapes_of_weights]
        whole = stream_step(*moving.values(), *weights, erase=erase, backend="reference")
        late, made = None, []
        for piece in zip(*(tensor.split(pieces, 1) for tensor in moving.values()), strict=True):
            out, late = continue_step(*piece, *weights, late, erase=erase)
            made.append(out)
        for name in ("state", "x", "c", "scores", "gates"):
            parts = torch.cat([getattr(out, name) for out in made], 1)
            assert relative_error(parts, getattr(whole, name)) < TOLERANCE[dtype, "native"], name


def test_what_does_not_continue_is_named() -> None:
    step = (torch.randn(2, 1, 3, 8), torch.randn(2, 1, 8), torch.randn(2, 1, 3), torch.ones(2, 1, 1))
    read, gain = torch.randn(4, 3, 8), torch.ones(8)
    with pytest.raises(ValueError, match=r"late must be \(2, 3, 8\) beside read \(4, 3, 8\), got \(2, 4, 8\)"):
        continue_step(*step, read, gain, None, None, None, torch.zeros(2, 4, 8))


@pytest.mark.parametrize("backend", HAND_WRITTEN)
def test_without_a_gradient_to_come_the_result_is_the_same(backend: str) -> None:
    available(backend, torch.float32)
    for seed in range(20):
        case = draw_case(seed)
        operands = {"v": None, "beta": None, "read": None}
        operands |= {name: tensor.float().requires_grad_() for name, tensor in case.operands.items()}
        tracked = stream_step(**operands, erase=case.erase, backend=backend)
        with torch.no_grad():
            untracked = stream_step(**operands, erase=case.erase, backend=backend)
        for one, other in zip(tracked, untracked, strict=True):
            assert (one is None) == (other is None)
            assert one is None or torch.equal(one, other)


@pytest.mark.parametrize("missing", ["k", "gain"])
def test_an_operand_that_has_to_be_there_is_asked_for(missing: str) -> None:
    operands = {"k": torch.randn(2, 3, 4), "gain": torch.ones(4), missing: None}
    with pytest.raises(TypeError, match=f"{missing} must be a floating-point tensor, got None"):
        stream_step(torch.randn(2, 3, 1, 4), operands["k"], None, None, None, operands["gain"])
