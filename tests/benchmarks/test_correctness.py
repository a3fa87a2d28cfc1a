from __future__ import annotations

import math
import os

import pytest
import torch
from torch import Tensor, nn

from deep_delta.benchmarks.case import Workload, module_workload, op_workload
from deep_delta.benchmarks.correctness import Judgement, gradients, judge_gradients, judge_workload, reference_backends
from deep_delta.benchmarks.suites.model import model_case
from deep_delta.benchmarks.suites.tensors import NETWORK
from deep_delta.models.variants import variant_config
from deep_delta.ops.dispatch import ENVIRONMENT
from tests.benchmarks.conftest import CPU


def product(x: Tensor, y: Tensor) -> Tensor:
    return x * y


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return grad * y, grad * x * 1.01


def workload(run) -> Workload:
    generator = torch.Generator().manual_seed(0)
    return op_workload(run, product, {name: torch.randn(4, 5, generator=generator) for name in "xy"})


def test_what_is_right_is_right_to_rounding() -> None:
    assert judge_workload(workload(product), 1e-6).is_right


@pytest.mark.parametrize(
    ("run", "where"),
    [
        (lambda x, y: x * y + 1e-2 * (x * y).detach().abs().amax(), "output"),
        (WrongGradient.apply, "gradient of y"),
        (lambda x, y: x * y.detach(), "gradient of y"),
    ],
    ids=["output", "gradient", "no gradient"],
)
def test_a_planted_hundredth_is_found_and_named(run, where) -> None:
    judged = judge_workload(workload(run), 5e-3)
    assert judged.name == where
    assert 5e-3 < judged.error <= 1.0
    assert not judged.is_right
    assert str(judged).startswith(f"the {where} is off by ")


@pytest.mark.parametrize("run", [lambda x, y: x * y / 0, lambda x, y: (x * y).unsqueeze(0)], ids=["nan", "shape"])
def test_what_cannot_be_compared_is_infinitely_wrong(run) -> None:
    assert judge_workload(workload(run), 1.0).error == math.inf


def test_a_module_is_held_against_its_double_and_its_definition() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(4, 3), torch.randn(2, 4)
    assert judge_workload(module_workload(linear, {"input": x}), 1e-6).is_right
    other = module_workload(linear, {"input": x}, definition=lambda module, **given: 1.01 * module(**given))
    assert 5e-3 < judge_workload(other, 1e-6).error < 2e-2
    assert set(other.leaves) == {"weight", "bias", "input"}
    assert len(other.parameters) == 2


def test_the_definition_runs_on_reference_backends_and_the_environment_comes_back(monkeypatch) -> None:
    seen = []

    def definition(x: Tensor, y: Tensor) -> Tensor:
        seen.append(os.environ[ENVIRONMENT])
        return x * y

    monkeypatch.setenv(ENVIRONMENT, "fused")
    judge_workload(op_workload(product, definition, {"x": torch.ones(2), "y": torch.ones(2)}), 1.0)
    assert seen == ["reference"]
    assert os.environ[ENVIRONMENT] == "fused"
    monkeypatch.delenv(ENVIRONMENT)
    with reference_backends():
        pass
    assert ENVIRONMENT not in os.environ


def test_a_bias_is_judged_on_the_scale_of_its_layers_weight() -> None:
    """Its gradient cancels: 0.02 off of 0.01 is rounding where the same terms, times inputs, come to 1000."""
    expected = {
        "layer.weight": torch.tensor([1000.0]),
        "layer.bias": torch.tensor([0.01]),
        "gain": torch.tensor([0.01]),
    }
    for name, right in (("layer.bias", True), ("gain", False), ("layer.weight", True)):
        found = {**expected, name: expected[name] + 0.02}
        judged = judge_gradients(found, expected, 1e-4)
        assert (judged.is_right, judged.name) == (right, name)
    gates = {"gate": torch.tensor([1000.0]), "gate_bias": torch.tensor([0.01])}
    assert judge_gradients({**gates, "gate_bias": torch.tensor([0.03])}, gates, 1e-4).is_right


def test_plain_operations_in_the_same_precision_bound_what_rounding_may_do() -> None:
    expected = {"a": torch.tensor([1.0]), "b": torch.tensor([1.0])}
    plain = {"a": torch.tensor([1.25]), "b": torch.tensor([1.0])}

    def judged(**found: float) -> Judgement:
        planted = {name: torch.tensor([value]) for name, value in found.items()}
        return judge_gradients({**expected, **planted}, expected, 0.1, lambda: plain)

    assert judged(a=0.6).is_right
    assert (judged(a=1.6).error, judged(a=1.6).allowed) == pytest.approx((0.6, 0.5))
    assert not judged(b=1.2).is_right
    plain["a"] = torch.tensor([math.inf])  # says nothing
    assert not judged(a=1.2).is_right


SIX = {"d_model": 128, "num_layers": 6, "num_heads": 2, "vocab_size": 256, "max_seq_len": 128}


@pytest.mark.parametrize(("precision", "least"), [("fp32", 12), ("bf16", 8)])
def test_a_wrong_gradient_of_a_gates_bias_is_found(precision: str, least: int) -> None:
    """A model's gradients are right; each of its twelve gates' biases is then planted wrong in turn: forgotten, doubled
    and negated. In bf16, the few that cancel to a tenth of their layer's scale cannot be told from rounding."""
    workload = model_case("", variant_config("ddl-cc-ec", **SIX), 4, precision).build(CPU)
    with reference_backends():
        exact, plain = (gradients(one, one.forward(), (None,)) for one in (workload.oracle(), workload.reference()))
    found = gradients(workload, workload.forward(), (None,))
    reference = (lambda: plain) if precision == "bf16" else None
    assert judge_gradients(found, exact, NETWORK[precision], reference).is_right
    gates = [name for name in found if name.endswith("gate.out.bias")]
    assert len(gates) == 12
    for factor in (0.0, 2.0, -1.0):
        planted = [{**found, gate: factor * found[gate]} for gate in gates]
        judged = [judge_gradients(one, exact, NETWORK[precision], reference) for one in planted]
        assert sum(not one.is_right for one in judged) >= least, factor
