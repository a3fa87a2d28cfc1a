"""Infinity and NaN in the delta rule over time change nothing before them and nothing beside them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from deep_delta.ops import chunk_delta_rule, recurrent_delta_rule
from deep_delta.ops.delta_rule import chunk, segment

B, H, T, K, E = 2, 2, 75, 6, 5
WHERE = ((1, 0, slice(None)), (1, 1, slice(None)), (0, slice(None), slice(None)))
"""Of a bad token in head (1, 0): what is after it (cut at the token), the head beside it, the row beside it."""
NAMES = ("q", "k", "v", "beta")
INF, NAN = float("inf"), float("nan")


@pytest.fixture(params=["one segment", "segments of 32", "as on a device"])
def _cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "segments of 32":
        monkeypatch.setattr(chunk, "SEGMENT_TOKENS", (32, 32))
    if request.param == "as on a device":  # where values are never looked at
        monkeypatch.setattr(chunk, "may_look", lambda x: False)
        monkeypatch.setattr(segment, "may_look", lambda x: False)


def draw(seed: int = 0) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(B, H, T, K), torch.randn(B, H, T, K), torch.randn(B, H, T, E), 2 * torch.rand(B, H, T)]


def spoil(inputs: list[Tensor], name: str, token: int, value: float) -> list[Tensor]:
    bad = [x.clone() for x in inputs]
    bad[NAMES.index(name)][1, 0, token].view(-1)[-1] = value
    return bad


def outputs(inputs: list[Tensor], **options: object) -> tuple[Tensor, Tensor]:
    return chunk_delta_rule(*inputs, 16, output_final_state=True, **options)


def gradients(inputs: list[Tensor], last: int, **options: object) -> tuple[Tensor, ...]:
    """Of the outputs before the token `last` in the first head of the second row, and of all others."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    o, S = outputs(inputs, **options)
    upstream = torch.randn(o.shape, generator=torch.Generator().manual_seed(1))
    upstream[1, 0, last:] = 0
    grad_S = torch.randn(S.shape, generator=torch.Generator().manual_seed(2))
    grad_S[-1, 0] = 0
    return torch.autograd.grad((o, S), inputs, (upstream, grad_S))


@pytest.mark.usefixtures("_cut", "poisoned_memory")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("normalize", [True, False])
def test_what_is_not_finite_reaches_nothing_before_it(name: str, value: float, normalize: bool) -> None:
    inputs = draw()
    if not normalize:
        inputs[1] = torch.nn.functional.normalize(inputs[1], dim=-1)
    o, S = outputs(inputs, normalize=normalize)
    for token in (0, 1, 9, 15, 16, 17, 40, T - 1):
        bad = spoil(inputs, name, token, value)
        found, last = outputs(bad, normalize=normalize)
        expected, expected_S = recurrent_delta_rule(*bad, output_final_state=True, normalize=normalize)
        for here in (WHERE[1], WHERE[2], (1, 0, slice(0, token))):
            assert torch.equal(found[here], o[here])
        assert torch.equal(last[0], S[0])
        assert torch.equal(last[1, 1], S[1, 1])
        assert torch.equal(found.isfinite(), expected.isfinite()), "lost where the recurrence is, and nowhere else"
        assert torch.equal(last.isfinite(), expected_S.isfinite())
        whole = expected.isfinite()
        assert (found[whole] - expected[whole]).abs().max() < 2e-5


@pytest.mark.usefixtures("_cut", "poisoned_memory")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_gradients_before_it_are_as_without_it(name: str, value: float, dtype: torch.dtype) -> None:
    inputs = [x.to(dtype) for x in draw(1)]
    for token in (0, 9, 16, 40, T - 1):
        found = gradients(spoil(inputs, name, token, value), token)
        for a, b in zip(found, gradients(inputs, token), strict=True):
            for here in (WHERE[1], WHERE[2], (1, 0, slice(0, token))):
                assert torch.equal(a[here], b[here])
            assert not a[1, 0, token:].count_nonzero()


@pytest.mark.usefixtures("_cut")
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_reads_what_is_lost_has_no_gradient(name: str) -> None:
    inputs = [x.requires_grad_() for x in spoil(draw(), name, 40, NAN)]
    o, _ = outputs(inputs)
    for of, grad in zip(NAMES, torch.autograd.grad(o.sum(), inputs), strict=True):
        assert of == "q" or grad[1, 0, :40].isnan().any(), "what wrote into the state that was read"
        assert grad[0].isfinite().all()
        assert grad[1, 1].isfinite().all()


@pytest.mark.usefixtures("_cut")
@pytest.mark.parametrize("name", [*NAMES, "state"])
def test_packed_sequences_are_kept_apart(name: str) -> None:
    torch.manual_seed(3)
    inputs = [x[1:] for x in draw(3)]
    bounds, state = torch.tensor([0, 20, 55, T]), torch.randn(3, H, K, E)
    o, S = outputs(inputs, cu_seqlens=bounds, initial_state=state)
    bad = [x.clone() for x in inputs]
    broken = state.clone()
    if name == "state":
        broken[1, 0, 2, 3] = NAN
        lost = slice(20, 55)
    else:
        bad[NAMES.index(name)][0, 0, 30] = NAN
        lost = slice(30, 31 if name == "q" else 55)
    leaves = [x.requires_grad_() for x in (*bad, broken)]
    found, last = outputs(leaves[:4], cu_seqlens=bounds, initial_state=leaves[4])
    assert not found[0, 0, lost].isfinite().all(-1).any()
    kept = torch.ones(H, T, dtype=torch.bool)
    kept[0, lost] = False
    assert torch.equal(found[0, kept], o[0, kept])
    assert torch.equal(last[[0, 2]], S[[0, 2]])
    grads = torch.autograd.grad(found[0, kept].sum() + last[[0, 2]].sum(), leaves)
    if name == "state":
        assert grads[4][1, 0, :, 3].count_nonzero() == 0
    for grad in grads:
        assert grad.isfinite().all()


def test_it_costs_no_look_at_a_devices_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where values may not be looked at, no tensor is asked for a number: on a CUDA device that would wait for it."""
    asked: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "_local_scalar_dense" in str(function) or "is_nonzero" in str(function):
                asked.append(str(function))
            return function(*args, **(kwargs or {}))

    def run() -> None:
        inputs = [x.requires_grad_() for x in draw()]
        o, S = chunk._forward._init_fn(*inputs, None, None, 16, 1.0, True, 1e-6, 0.0)[:2]
        chunk._backward._init_fn(o, S, *inputs, S.new_zeros(1, B, H, K, E), None, 16, 1.0, True, 1e-6, 0.0)

    with torch.no_grad(), Watch():
        run()
        assert asked
        asked.clear()
        monkeypatch.setattr(chunk, "may_look", lambda x: False)
        monkeypatch.setattr(segment, "may_look", lambda x: False)
        run()
        assert not asked


@pytest.mark.parametrize("size", [1e20, 1e-20, INF, NAN])
def test_a_later_direction_of_any_size_changes_no_earlier_bit(size: float) -> None:
    inputs = draw(4)
    o = chunk_delta_rule(*inputs)
    for name in (0, 1):
        changed = [x.clone() for x in inputs]
        changed[name][1, 0, 40] *= size
        assert torch.equal(chunk_delta_rule(*changed)[1, 0, :40], o[1, 0, :40])
