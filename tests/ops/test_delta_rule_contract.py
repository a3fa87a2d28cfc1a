"""What the delta rule over time promises beside its numbers: refusals, the choice of a backend, one graph, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deep_delta.errors import BackendError
from deep_delta.ops import chunk_delta_rule, delta_rule_step, recurrent_delta_rule
from deep_delta.ops.delta_rule import BACKENDS, explain_chunk_delta_rule
from deep_delta.ops.dispatch import NAMES

HERE = [backend.name for backend in BACKENDS if not backend.unavailable(torch.zeros(1))]
ONES = {"q": (2, 3, 4, 5), "k": (2, 3, 4, 5), "v": (2, 3, 4, 6), "beta": (2, 3, 4)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": (2, 3, 4, 6)}, r"q and k must both be \[B, H, T, K\].*5\) and .*6\)"),
        ({"q": (3, 4, 5), "k": (3, 4, 5)}, "q and k must both"),
        ({"v": (2, 3, 5, 6)}, "v must be"),
        ({"beta": (2, 3, 4, 1)}, "beta must be"),
        ({"q": (2, 3, 4, 0), "k": (2, 3, 4, 0)}, "at least 1"),
        ({"q": (2, 3, 0, 5), "k": (2, 3, 0, 5), "v": (2, 3, 0, 6), "beta": (2, 3, 0)}, "at least 1"),
        ({"initial_state": (2, 3, 6, 5)}, r"initial_state must be \(2, 3, 5, 6\)"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"cu_seqlens": [0, 4]}, "B = 1"),
        ({"cu_seqlens": [4]}, r"\[N \+ 1\]"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(change: dict, message: str) -> None:
    arguments = {name: torch.ones(shape) for name, shape in ONES.items()}
    for name, value in change.items():
        arguments[name] = (
            value if name == "chunk_size" else torch.tensor(value) if name == "cu_seqlens" else torch.ones(value)
        )
    with pytest.raises(ValueError, match=message):
        chunk_delta_rule(**arguments)
    if "chunk_size" not in change:
        with pytest.raises(ValueError, match=message):
            recurrent_delta_rule(**arguments)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("bounds", [[0, 3], [1, 4], [0, 3, 2, 4], [0, 2, 2, 4], [0, 5]], ids=str)
def test_bad_sequence_bounds_are_named(backend: str, bounds: list[int]) -> None:
    inputs = [torch.ones(1, 1, 4, 2)] * 3 + [torch.ones(1, 1, 4)]
    with pytest.raises(ValueError, match="must increase from 0 to T = 4"):
        chunk_delta_rule(*inputs, backend=backend, cu_seqlens=torch.tensor(bounds))


@pytest.mark.parametrize("name", [*ONES, "initial_state"])
def test_tensors_on_two_devices_are_refused(name: str) -> None:
    arguments = {one: torch.ones(shape) for one, shape in ONES.items()} | {"initial_state": torch.ones(2, 3, 5, 6)}
    arguments[name] = arguments[name].to("meta")
    with pytest.raises(ValueError, match=f"on one device, got .*({name} on meta|q on meta)"):
        chunk_delta_rule(**arguments)


def test_integers_and_bad_steps_are_refused() -> None:
    inputs = [torch.ones(1, 1, 4, 2)] * 3 + [torch.ones(1, 1, 4)]
    with pytest.raises(TypeError, match="beta must be a floating-point"):
        chunk_delta_rule(*inputs[:3], inputs[3].long())
    with pytest.raises(ValueError, match="cu_seqlens must be an int32"):
        chunk_delta_rule(*inputs, cu_seqlens=torch.tensor([0.0, 4.0]))
    q, v, beta, S = torch.ones(2, 3, 5), torch.ones(2, 3, 6), torch.ones(2, 3), torch.ones(2, 3, 5, 6)
    for arguments, message in (
        ((q, q[..., :4], v, beta, S), "q and k must both"),
        ((q, q, v[:1], beta, S), "v must be"),
        ((q, q, v, beta[..., None], S), "beta must be"),
        ((q, q, v, beta, S.mT), r"S must be \(2, 3, 5, 6\)"),
        ((q[..., :0], q[..., :0], v, beta, S), "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            delta_rule_step(*arguments)
    with pytest.raises(TypeError, match="S must be a floating-point"):
        delta_rule_step(q, q, v, beta, S.long())


def test_the_backend_that_runs_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.randn(1, 1, 4, 2)
    inputs = [q, q, q, torch.rand(1, 1, 4)]
    with pytest.raises(BackendError, match="there are auto, reference, fla, chunk"):
        chunk_delta_rule(*inputs, backend="fused")
    with pytest.raises(BackendError, match="runs on CUDA tensors, got cpu") as refused:
        chunk_delta_rule(*inputs, backend="fla")
    assert refused.value.exit_code == 2
    assert explain_chunk_delta_rule(q).backend.name == "chunk"
    assert "matrix products" in explain_chunk_delta_rule(q).reason
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    assert explain_chunk_delta_rule(q).backend.name == "reference"
    assert explain_chunk_delta_rule(q, "chunk").backend.name == "chunk"
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "fused")  # which the delta update over depth has
    assert explain_chunk_delta_rule(q).backend.name == "chunk"
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "magic")
    with pytest.raises(BackendError, match="by DEEP_DELTA_BACKEND"):
        chunk_delta_rule(*inputs)
    assert {backend.name for backend in BACKENDS} <= NAMES


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_custom_ops_keep_pytorchs_contract(packed: bool, dtype: torch.dtype) -> None:
    inputs = [torch.randn(1, 2, 40, 3), torch.randn(1, 40, 2, 3).transpose(1, 2), torch.randn(1, 2, 40, 2)]
    inputs = [x.to(dtype).requires_grad_() for x in (*inputs, torch.rand(1, 2, 40))]
    state = torch.randn(2 if packed else 1, 2, 3, 2, requires_grad=True)
    cu_seqlens = torch.tensor([0, 15, 40]) if packed else None
    arguments = (*inputs, state if packed else None, cu_seqlens, 16, 0.5, True, 1e-6, 0.0)
    torch.library.opcheck(torch.ops.deep_delta.chunk_delta_rule.default, arguments)


@pytest.mark.parametrize("wide", range(5))
@pytest.mark.parametrize("backend", HERE)
def test_the_widest_operand_decides_the_precision(backend: str, wide: int) -> None:
    torch.manual_seed(8)
    inputs = [torch.randn(1, 2, 9, 3), torch.randn(1, 2, 9, 3), torch.randn(1, 2, 9, 2), torch.rand(1, 2, 9)]
    inputs.append(torch.randn(1, 2, 3, 2))
    exact = [x.double() for x in inputs]
    inputs[wide] = exact[wide]

    def last(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, S: Tensor) -> Tensor:
        return chunk_delta_rule(q, k, v, beta, 4, initial_state=S, output_final_state=True, backend=backend)[1]

    found, expected = last(*inputs), last(*exact)
    assert found.dtype == torch.float64
    assert (found - expected).abs().max() < 1e-14
    first = [[x[:, :, 0] for x in some[:4]] + some[4:] for some in (inputs, exact)]
    assert (delta_rule_step(*first[0])[1] - delta_rule_step(*first[1])[1]).abs().max() < 1e-14
    leaves = [x.requires_grad_() for x in inputs]
    for grad, x in zip(torch.autograd.grad(last(*leaves).sum(), leaves[1:]), leaves[1:], strict=True):
        assert grad.dtype == x.dtype


@pytest.mark.parametrize("packed", [False, True])
def test_it_compiles_into_one_graph(packed: bool) -> None:
    torch.manual_seed(6)
    inputs = [torch.randn(1, 2, 40, 4), torch.randn(1, 2, 40, 4), torch.randn(1, 2, 40, 3), torch.rand(1, 2, 40)]
    inputs = [x.requires_grad_() for x in inputs]
    cu_seqlens = torch.tensor([0, 15, 40]) if packed else None

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return chunk_delta_rule(*tensors, 16, output_final_state=True, cu_seqlens=cu_seqlens)

    found, expected = torch.compile(run, fullgraph=True, backend="aot_eager")(*inputs), run(*inputs)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
    losses = [sum(x.square().sum() for x in pair) for pair in (found, expected)]
    for a, b in zip(*(torch.autograd.grad(loss, inputs) for loss in losses), strict=True):
        assert torch.equal(a, b)


def test_it_keeps_little_for_the_backward() -> None:
    """The inputs and a state for each segment: no more than a third beside the inputs themselves."""
    inputs = [torch.randn(1, 4, 2048, 32, requires_grad=True) for _ in range(3)]
    inputs.append(torch.rand(1, 4, 2048, requires_grad=True))
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        chunk_delta_rule(*inputs)
    size = sum(x.untyped_storage().nbytes() for x in inputs)
    assert sum(kept.values()) <= size * 4 / 3


class Rule(torch.nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        return chunk_delta_rule(q, k, v, beta, output_final_state=True)


@pytest.mark.parametrize("B", [1, 2])
def test_one_exported_graph_holds_every_length(B: int) -> None:
    def draw(T: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v = torch.randn(3, B, 2, T, 4).unbind()
        return q, k, v, torch.rand(B, 2, T)

    time = torch.export.Dim("time", min=1, max=4096)
    exported = torch.export.export(Rule(), draw(7), dynamic_shapes=({2: time},) * 4)
    assert [(str(one.lower), str(one.upper)) for one in exported.range_constraints.values()] == [("1", "4096")]
    for T in (1, 2, 33, 1023, 1024, 2049):
        inputs = draw(T)
        for found, expected in zip(exported.module()(*inputs), Rule()(*inputs), strict=True):
            assert torch.equal(found, expected)


def test_a_graph_of_any_length_has_the_gradients() -> None:
    compiled = torch.compile(Rule(), backend="aot_eager", fullgraph=True, dynamic=True)
    for T in (5, 33, 1100):
        inputs = [torch.randn(1, 2, T, 4), torch.randn(1, 2, T, 4), torch.randn(1, 2, T, 3), torch.rand(1, 2, T)]
        found, expected = (
            torch.autograd.grad(sum(x.square().sum() for x in rule(*leaves)), leaves)
            for rule in (compiled, Rule())
            for leaves in ([x.clone().requires_grad_() for x in inputs],)
        )
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
