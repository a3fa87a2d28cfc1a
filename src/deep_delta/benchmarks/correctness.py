"""A row is timed only after its outputs and gradients have been held against the definition in fp64."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Workload
from deep_delta.ops.dispatch import ENVIRONMENT

_LEAST = 2e-2  # a gradient smaller than this part of the largest one is held to its scale: its sum cancels


def largest_error(workload: Workload) -> tuple[float, str]:
    """The largest relative error of the output and of every gradient, and whose it is.

    max|a − b| / max|b| against the oracle with the same upstream gradient; infinite where something is not finite.
    """
    assert workload.oracle is not None
    exact = workload.oracle()
    output = workload.forward()
    with reference_backends():
        expected_output = exact.forward()
        if output.shape != expected_output.shape:
            return math.inf, "output's shape"
        gradient = upstream(output)
        expected = gradients(exact, expected_output, gradient.to(expected_output.dtype))
    found = gradients(workload, output, gradient)
    errors = [(_error(output, expected_output, 0.0), "output")]
    scale = _LEAST * max((tensor.abs().max().item() for tensor in expected.values()), default=0.0)
    errors += [(_error(found[name], expected[name], scale), f"gradient of {name}") for name in expected]
    return max(errors)


def upstream(output: Tensor) -> Tensor:
    """A gradient for `output` that is the same at every call: 1 for a loss, else random."""
    if output.ndim == 0:
        return torch.ones_like(output)
    generator = torch.Generator().manual_seed(output.numel())
    return torch.randn(output.shape, generator=generator).to(output)


def gradients(workload: Workload, output: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    leaves = workload.leaves
    found = torch.autograd.grad(output, list(leaves.values()), gradient, allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in pairs}


@contextmanager
def reference_backends() -> Iterator[None]:
    """Every operator's own definition, whatever the environment asks for."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = "reference"
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before


def _error(actual: Tensor, expected: Tensor, least: float) -> float:
    if expected.numel() == 0:
        return 0.0
    expected = expected.double()
    scale = max(expected.abs().max().item(), least) or 1.0
    error = (actual.double() - expected).abs().max().item() / scale
    return error if math.isfinite(error) else math.inf
