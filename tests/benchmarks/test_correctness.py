from __future__ import annotations

import math
import os

import pytest
import torch
from torch import Tensor, nn

from deep_delta.benchmarks.case import Workload, module_workload, op_workload
from deep_delta.benchmarks.correctness import largest_error, reference_backends
from deep_delta.ops.dispatch import ENVIRONMENT


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
    assert largest_error(workload(product))[0] < 1e-6


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
    error, found = largest_error(workload(run))
    assert found == where
    assert 5e-3 < error <= 1.0


@pytest.mark.parametrize("run", [lambda x, y: x * y / 0, lambda x, y: (x * y).unsqueeze(0)], ids=["nan", "shape"])
def test_what_cannot_be_compared_is_infinitely_wrong(run) -> None:
    assert largest_error(workload(run))[0] == math.inf


def test_a_module_is_held_against_its_double_and_its_definition() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(4, 3), torch.randn(2, 4)
    assert largest_error(module_workload(linear, {"input": x}))[0] < 1e-6
    other = module_workload(linear, {"input": x}, definition=lambda module, **given: 1.01 * module(**given))
    assert 5e-3 < largest_error(other)[0] < 2e-2
    assert set(other.leaves) == {"weight", "bias", "input"}
    assert len(other.parameters) == 2


def test_the_definition_runs_on_reference_backends_and_the_environment_comes_back(monkeypatch) -> None:
    seen = []

    def definition(x: Tensor, y: Tensor) -> Tensor:
        seen.append(os.environ[ENVIRONMENT])
        return x * y

    monkeypatch.setenv(ENVIRONMENT, "fused")
    largest_error(op_workload(product, definition, {"x": torch.ones(2), "y": torch.ones(2)}))
    assert seen == ["reference"]
    assert os.environ[ENVIRONMENT] == "fused"
    monkeypatch.delenv(ENVIRONMENT)
    with reference_backends():
        pass
    assert ENVIRONMENT not in os.environ
