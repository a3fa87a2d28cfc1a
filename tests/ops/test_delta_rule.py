"""Every backend of the delta rule over time against the recurrence in fp64."""

from __future__ import annotations

import functools
import itertools
import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from deep_delta.ops import chunk_delta_rule, delta_rule_step, recurrent_delta_rule
from deep_delta.ops.delta_rule import BACKENDS, chunk, segment
from deep_delta.ops.delta_rule.inverse import unit_lower_inverse
from tests.tolerances import TOLERANCE, relative_error

HERE = [backend.name for backend in BACKENDS if not backend.unavailable(torch.zeros(1))]
RESULTS = ("o", "S", "q", "k", "v", "beta", "initial_state")


class Case(NamedTuple):
    """Inputs of one call, the upstream gradients, and the options."""

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    initial_state: Tensor
    grad_o: Tensor
    grad_S: Tensor
    chunk_size: int
    normalize: bool

    def cast(self, dtype: torch.dtype) -> Case:
        return Case(*(tensor.to(dtype) for tensor in self[:7]), *self[7:])


def draw_case(seed: int, dtype: torch.dtype) -> Case:
    """Odd sizes and chunks; transposed, strided or expanded storage of every input and upstream gradient."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    B, H = rng.choice([1, 1, 2, 3]), rng.choice([1, 2, 3])
    T, chunk_size = rng.choice([1, 2, 3, 7, 8, 9, 15, 17, 24, 33]), rng.choice([1, 2, 5, 8, 9, 16, 31, 64])
    K, E = rng.choice([1, 2, 3, 5, 8, 16]), rng.choice([1, 1, 2, 3, 7, 8])

    def draw(*shape: int, uniform: bool = False) -> Tensor:
        sample = torch.rand if uniform else torch.randn

        def fill(*size: int) -> Tensor:
            return (sample(*size, generator=generator, dtype=torch.float64) * (2 if uniform else 1)).to(dtype)

        style = rng.choice(["plain", "time first", "transposed", "strided", "expanded"])
        if style == "time first":
            return fill(shape[0], shape[2], shape[1], *shape[3:]).transpose(1, 2)
        if style == "transposed":
            return fill(*shape[:-2], shape[-1], shape[-2]).mT
        if style == "strided":
            return fill(*shape[:-1], 2 * shape[-1])[..., ::2]
        if style == "expanded":
            return fill(1, *shape[1:]).expand(shape)
        return fill(*shape)

    tensors = [draw(B, H, T, K), draw(B, H, T, K), draw(B, H, T, E), draw(B, H, T, uniform=True)]
    tensors += [draw(B, H, K, E), draw(B, H, T, E), draw(B, H, K, E)]
    normalize = rng.random() < 0.8
    if not normalize:  # keys longer than 1 make the recurrence expand
        tensors[1] = torch.nn.functional.normalize(tensors[1].double(), dim=-1).to(dtype)
    return Case(*tensors, chunk_size, normalize)


def results(case: Case, backend: str) -> tuple[Tensor, ...]:
    """The outputs and the gradient of every input."""
    inputs = [tensor.detach().requires_grad_() for tensor in case[:5]]
    o, S = chunk_delta_rule(
        *inputs[:4],
        case.chunk_size,
        initial_state=inputs[4],
        output_final_state=True,
        normalize=case.normalize,
        backend=backend,
    )
    return o, S, *torch.autograd.grad((o, S), inputs, (case.grad_o, case.grad_S.to(S.dtype)))


def assert_close(case: Case, actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> None:
    largest = max(x.abs().max().item() for x in expected)
    if case.q.shape[-1] == 1:  # keys of one number are all parallel, and the bar for those is four times as wide
        tolerance *= 4
    for name, a, b in zip(RESULTS, actual, expected, strict=True):
        least = 1.0  # inputs are of size 1; a sum that cancels is judged on that scale
        if name in ("q", "k") and case.normalize:  # the slope grows as 1/‖k‖, and its rounding with it
            length = getattr(case, name).double().norm(dim=-1, keepdim=True)
            a, b = a * length, b * length
            if case.q.shape[-1] == 1:  # a direction of one number cannot turn: equal numbers cancel to zero
                least = max(least, largest)
        error = relative_error(a, b, least=least)
        assert error <= tolerance, f"{name}: {error:.2e} with {[tuple(x.shape) for x in case[:3]]}, {case[7:]}"


def check(backend: str, dtype: torch.dtype, seeds: range) -> None:
    for seed in seeds:
        case = draw_case(seed, dtype)
        actual = results(case, backend)
        assert actual[0].dtype == dtype
        assert actual[1].dtype == (dtype if dtype == torch.float64 else torch.float32)
        assert_close(case, actual, results(case.cast(torch.float64), "reference"), TOLERANCE[dtype, backend])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.usefixtures("poisoned_memory")
def test_outputs_and_every_gradient_match_the_recurrence(dtype: torch.dtype) -> None:
    check("chunk", dtype, range(500))


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        ("chunk", torch.bfloat16),
        ("chunk", torch.float16),
        ("reference", torch.float32),
        ("reference", torch.bfloat16),
        ("reference", torch.float16),
    ],
    ids=str,
)
@pytest.mark.usefixtures("poisoned_memory")
def test_half_precision_and_the_reference_itself(backend: str, dtype: torch.dtype) -> None:
    check(backend, dtype, range(60))


@pytest.mark.parametrize("most", [64, 100])
@pytest.mark.usefixtures("poisoned_memory")
def test_chunks_longer_than_a_cpu_likes(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "CPU_CHUNK", most)
    check("chunk", torch.float32, range(60))
    for keys, beta in (("random", "U(0, 2)"), ("cosine 0.9", 2.0), ("identical", "U(0, 2)")):
        case = draw_long(513, keys, beta)._replace(chunk_size=most)
        for name, a, b in zip(RESULTS, results(case.cast(torch.float32), "chunk"), exact(513, keys, beta), strict=True):
            assert relative_error(a, b, least=1e-3) <= (5e-6 if keys == "random" else 2e-5 * 5.13), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", HERE)
@pytest.mark.usefixtures("poisoned_memory")
def test_many_more_shapes(backend: str, dtype: torch.dtype) -> None:
    check(backend, dtype, range(500, 2500))


def draw_long(T: int, keys: str, beta: float | str, dtype: torch.dtype = torch.float64) -> Case:
    """Two heads of 16 dimensions; keys that are random, at a cosine of 0.9 with each other, or identical."""
    torch.manual_seed(T)
    shape = (1, 2, T, 16)
    q, k, v, grad = (torch.randn(shape, dtype=dtype) for _ in range(4))
    shared = torch.nn.functional.normalize(torch.randn(1, 2, 1, 16, dtype=dtype), dim=-1)
    if keys == "cosine 0.9":  # √0.9 of one direction and √0.1 across it
        across = k - shared * (k * shared).sum(-1, keepdim=True)
        k = 0.9**0.5 * shared + 0.1**0.5 * torch.nn.functional.normalize(across, dim=-1)
    elif keys == "identical":
        k = shared.expand(shape)
    gate = 2 * torch.rand(1, 2, T, dtype=dtype) if beta == "U(0, 2)" else torch.full((1, 2, T), float(beta)).to(dtype)
    state, grad_S = torch.randn(1, 2, 16, 16, dtype=dtype), torch.randn(1, 2, 16, 16, dtype=dtype)
    return Case(q, k, v, gate, state, grad, grad_S, 64, True)


@functools.cache
def exact(T: int, keys: str, beta: float | str) -> tuple[Tensor, ...]:
    return results(draw_long(T, keys, beta), "reference")


@pytest.mark.parametrize("T", [1, 63, 64, 65, 513])
def test_random_keys_meet_the_bars(T: int) -> None:
    case = draw_long(T, "random", "U(0, 2)")
    for dtype, bar in ((torch.float64, 1e-13), (torch.float32, 5e-6)):
        for name, a, b in zip(RESULTS, results(case.cast(dtype), "chunk"), exact(T, "random", "U(0, 2)"), strict=True):
            assert relative_error(a, b) <= bar, name


@pytest.mark.parametrize("T", [65, 513])
@pytest.mark.parametrize("keys", ["cosine 0.9", "identical"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, "U(0, 2)"], ids=str)
def test_parallel_keys_meet_the_bars(keys: str, beta: float | str, T: int) -> None:
    """Random keys never show a bad inverse: a doubling series is wrong by many orders of magnitude here."""
    case = draw_long(T, keys, beta)
    for dtype, bar in ((torch.float64, 1e-13 * T), (torch.float32, 2e-5 * max(1, T / 100))):
        actual = results(case.cast(dtype), "chunk")
        for name, a, b in zip(RESULTS, actual, exact(T, keys, beta), strict=True):
            assert relative_error(a, b, least=1e-3) <= bar, name


@pytest.mark.parametrize("keys", ["random", "cosine 0.9"])
def test_bf16_inputs_meet_the_bars(keys: str) -> None:
    case = draw_long(256, keys, "U(0, 2)")
    halves = case.cast(torch.bfloat16)
    expected = results(case, "reference")[0]
    error = relative_error(results(halves, "chunk")[0], results(halves.cast(torch.float64), "reference")[0])
    assert error <= 6e-3
    plain = plain_recurrence(halves)
    assert plain.dtype == torch.bfloat16
    assert relative_error(results(halves, "chunk")[0], expected) <= 2 * relative_error(plain, expected)


def plain_recurrence(case: Case) -> Tensor:
    """The recurrence as one would write it, every operation in the precision of the inputs."""
    S, outputs = case.initial_state, []
    q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (case.q, case.k))
    for t in range(case.q.shape[2]):
        error = case.v[:, :, t] - torch.einsum("bhk,bhke->bhe", k[:, :, t], S)
        S = S + torch.einsum("bhk,bhe->bhke", k[:, :, t], case.beta[:, :, t, None] * error)
        outputs.append(torch.einsum("bhk,bhke->bhe", q[:, :, t] * case.q.shape[-1] ** -0.5, S))
    return torch.stack(outputs, 2)


@pytest.mark.parametrize("C", [1, 7, 8, 9, 24, 33, 64, 100])
def test_the_inverse_is_an_inverse_for_parallel_keys_too(C: int) -> None:
    lower = torch.full((3, C, C), 2.0).tril(-1)
    lower[1] *= 0.9
    lower[2].copy_(torch.randn(C, C).tril(-1) / C)
    inverse = unit_lower_inverse(lower, segment.Workspace(lower, lower.dtype))
    expected = torch.linalg.inv(lower.double() + torch.eye(C, dtype=torch.float64))
    assert relative_error(inverse, expected) < 2e-5
    assert torch.equal(inverse, inverse.tril()), "exactly lower triangular: causality rests on it"


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(
    ("T", "K", "E", "chunk_size"), [(1, 3, 2, 4), (3, 3, 1, 4), (4, 2, 2, 4), (5, 3, 2, 4), (9, 2, 1, 8)], ids=str
)
@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(backend: str, T: int, K: int, E: int, chunk_size: int, normalize: bool) -> None:
    torch.manual_seed(0)
    double = {"dtype": torch.float64, "requires_grad": True}
    q, k, v = torch.randn(1, 2, T, K, **double), torch.randn(1, 2, T, K, **double), torch.randn(1, 2, T, E, **double)
    logits = (40 * torch.rand(1, 2, T, dtype=torch.float64) - 20).requires_grad_()
    S = torch.randn(1, 2, K, E, **double)

    def run(q: Tensor, k: Tensor, v: Tensor, logits: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        k = k if normalize else k / 4
        return chunk_delta_rule(
            q,
            k,
            v,
            2 * torch.sigmoid(logits),
            chunk_size,
            initial_state=S,
            output_final_state=True,
            normalize=normalize,
            backend=backend,
        )

    assert torch.autograd.gradcheck(run, (q, k, v, logits, S), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("backend", HERE)
def test_gradcheck_at_zero_queries_and_keys(backend: str) -> None:
    torch.manual_seed(1)
    double = {"dtype": torch.float64, "requires_grad": True}
    q, k = torch.zeros(1, 1, 5, 3, **double), torch.zeros(1, 1, 5, 3, **double)
    v, beta = torch.randn(1, 1, 5, 2, **double), torch.rand(1, 1, 5, **double)
    assert torch.autograd.gradcheck(
        lambda *inputs: chunk_delta_rule(*inputs, 4, eps=1e-2, backend=backend),
        (q, k, v, beta),
        atol=1e-7,
        rtol=1e-5,
    )


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        *itertools.product((torch.float32, torch.bfloat16), (0.0, 1e-20, 1e-6, 1.0, 1e20)),
        *itertools.product((torch.float16,), (0.0, 1e-20, 1e-6, 1.0, 1e4)),  # fp16 has no 1e20
    ],
    ids=str,
)
def test_any_size_of_query_and_key_is_finite_and_right(backend: str, dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(2)
    q, k = ((size * torch.randn(1, 2, 20, 8, dtype=torch.float64)).to(dtype) for _ in range(2))
    v, beta = torch.randn(1, 2, 20, 3), 2 * torch.rand(1, 2, 20)
    inputs = [x.requires_grad_() for x in (q, k, v, beta)]
    precise = [x.detach().double().requires_grad_() for x in inputs]
    o, expected = chunk_delta_rule(*inputs, backend=backend), recurrent_delta_rule(*precise)
    assert relative_error(o, expected) < 1e-5
    o.sum().backward()
    expected.sum().backward()
    for name, a, b in zip(("q", "k", "v", "beta"), inputs, precise, strict=True):
        if name in ("q", "k") and dtype is torch.float16:
            if backend == "chunk":
                assert a.grad.isfinite().all(), "the slope at k = 0 is 1/ε: it saturates in fp16"
            continue
        assert a.grad.isfinite().all()
        assert relative_error(a.grad, b.grad) < (1e-5 if a.dtype == torch.float32 else TOLERANCE[dtype, backend]), name


@pytest.mark.parametrize("backend", HERE)
def test_one_run_is_two_runs_that_hand_the_state_on(backend: str) -> None:
    case = draw_long(150, "random", "U(0, 2)")
    run = functools.partial(chunk_delta_rule, chunk_size=16, output_final_state=True, backend=backend)
    o, S = run(*case[:4], initial_state=case.initial_state)
    parts, state = [], case.initial_state
    for start, end in ((0, 1), (1, 60), (60, 150)):
        part, state = run(*(x[:, :, start:end] for x in case[:4]), initial_state=state)
        parts.append(part)
    assert relative_error(torch.cat(parts, 2), o) < 1e-13
    assert relative_error(state, S) < 1e-13


def test_steps_are_the_recurrence() -> None:
    case = draw_case(1, torch.float32)
    o, S = recurrent_delta_rule(*case[:4], initial_state=case.initial_state, output_final_state=True)
    state = case.initial_state
    for t in range(case.q.shape[2]):
        out, state = delta_rule_step(*(x[:, :, t] for x in case[:4]), state)
        assert torch.equal(out, o[:, :, t])
    assert torch.equal(state, S)


@pytest.mark.parametrize("backend", HERE)
def test_a_later_token_changes_no_earlier_output(backend: str) -> None:
    torch.manual_seed(3)
    shapes = ((2, 2, 90, 8), (2, 2, 90, 8), (2, 2, 90, 4), (2, 2, 90))
    inputs = [torch.randn(shape) for shape in shapes[:3]] + [2 * torch.rand(shapes[3])]
    o = chunk_delta_rule(*inputs, backend=backend)
    for t in (1, 7, 8, 31, 32, 33, 63, 64, 65, 89):
        changed = [x.clone() for x in inputs]
        for x in changed:
            x[:, :, t:] = torch.rand_like(x[:, :, t:])
        later = chunk_delta_rule(*changed, backend=backend)
        assert torch.equal(later[:, :, :t], o[:, :, :t]), t
        assert not torch.equal(later[:, :, t:], o[:, :, t:])


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_packed_sequences_are_separate_ones(backend: str, dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    bounds = [0, 1, 34, 66, 100]
    cu_seqlens = torch.tensor(bounds, dtype=dtype)
    tensors = [torch.randn(1, 2, 100, 8), torch.randn(1, 2, 100, 8), torch.randn(1, 2, 100, 4), torch.rand(1, 2, 100)]
    tensors.append(torch.randn(4, 2, 8, 4))
    inputs = [x.requires_grad_() for x in tensors]
    run = functools.partial(chunk_delta_rule, chunk_size=16, output_final_state=True, backend=backend)
    o, S = run(*inputs[:4], initial_state=inputs[4], cu_seqlens=cu_seqlens)
    apart = [
        run(*(x[:, :, a:b] for x in inputs[:4]), initial_state=inputs[4][n : n + 1])
        for n, (a, b) in enumerate(itertools.pairwise(bounds))
    ]
    together = torch.cat([o for o, _ in apart], 2), torch.cat([S for _, S in apart])
    upstream = torch.randn_like(o), torch.randn_like(S)
    found = torch.autograd.grad((o, S), inputs, upstream)
    expected = torch.autograd.grad(together, inputs, upstream)
    for a, b in zip((o, S, *found), (*together, *expected), strict=True):
        assert relative_error(a, b) < TOLERANCE[torch.float32, backend]

    changed = [x.detach().clone() for x in inputs]
    for x in changed[:4]:
        x[:, :, 34:66] += 1
    changed_o, changed_S = run(*changed[:4], initial_state=changed[4], cu_seqlens=cu_seqlens)
    kept = [*range(34), *range(66, 100)]
    assert torch.equal(changed_o[:, :, kept], o[:, :, kept])
    assert torch.equal(changed_S[[0, 1, 3]], S[[0, 1, 3]])


def test_many_heads_and_segments_agree_with_few() -> None:
    """More heads than are worked on at once, and more tokens than a segment holds."""
    torch.manual_seed(5)
    shapes = ((5, 5, 600, 3), (5, 5, 600, 3), (5, 5, 600, 2), (5, 5, 600))
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes[:3]] + [torch.rand(shapes[3]).double()]
    inputs.append(torch.randn(5, 5, 3, 2, dtype=torch.float64))
    case = Case(*inputs, torch.randn(shapes[2]).double(), torch.randn(5, 5, 3, 2).double(), 64, True)
    assert_close(case, results(case, "chunk"), results(case, "reference"), 1e-13)


def test_only_the_final_state_may_be_asked_for() -> None:
    case = draw_case(7, torch.float64)
    gradients = []
    for backend in ("chunk", "reference"):
        inputs = [x.detach().requires_grad_() for x in case[:5]]
        _, S = chunk_delta_rule(
            *inputs[:4], 8, initial_state=inputs[4], output_final_state=True, backend=backend, scale=0.5
        )
        gradients.append(torch.autograd.grad(S, inputs, case.grad_S, allow_unused=True, materialize_grads=True))
    for a, b in zip(*gradients, strict=True):
        assert relative_error(a, b, least=1.0) < 1e-13


@pytest.mark.parametrize("backend", HERE)
def test_autocast_lowers_nothing_inside(backend: str) -> None:
    case = draw_case(8, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = results(case, backend)
    for a, b in zip(inside, results(case, backend), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("backend", HERE)
def test_fading_bounds_the_gradient_of_short_directions_alone(backend: str) -> None:
    """By Σx²/(fade² − ε²) where √(Σx² + ε²) is below fade, and elsewhere by not a bit."""
    case = draw_long(40, "random", "U(0, 2)")
    length = torch.tensor([0.0, 1e-9, 1e-6, 1e-4, 0.9e-3, 1.0, 10.0, 1.0], dtype=torch.float64).repeat(5).unsqueeze(-1)
    inputs = [length * case.q, length.flip(0) * case.k, case.v, case.beta]

    def run(fade: float) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaves = [x.detach().requires_grad_() for x in inputs]
        o = chunk_delta_rule(*leaves, fade=fade, backend=backend)
        return o, torch.autograd.grad(o, leaves, case.grad_o)

    (o, grads), (faded_o, faded) = run(0.0), run(1e-3)
    assert torch.equal(o, faded_o)
    for x, exact, found in zip(inputs[:2], grads, faded, strict=False):
        square = x.square().sum(-1, keepdim=True)
        assert relative_error(found, exact * (square / (1e-6 - 1e-12)).clamp_max(1)) < 1e-12
        assert not found[square.expand_as(x) == 0].count_nonzero()
        usual = square.expand_as(x) >= 1e-6
        assert torch.equal(found[usual], exact[usual])
    assert torch.equal(faded[2], grads[2])
    assert torch.equal(faded[3], grads[3])
    assert torch.autograd.gradcheck(
        lambda k: chunk_delta_rule(case.q[:, :, :3], k, case.v[:, :, :3], case.beta[:, :, :3], eps=1e-2, fade=1e-3),
        torch.zeros(1, 2, 3, 16, dtype=torch.float64, requires_grad=True),
        atol=1e-7,
        rtol=1e-5,
    )
