"""A row is timed only after its outputs and gradients have been held against the definition in fp64."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Outputs, Workload
from deep_delta.ops.dispatch import ENVIRONMENT

_LEAST = 2e-2  # a gradient smaller than this part of the largest one is held to its scale: its sum cancels


def largest_error(workload: Workload) -> tuple[float, str]:
    """The largest relative error of the outputs and of every gradient, and whose it is.

    max|a − b| / max|b| against the oracle with the same upstream gradients; infinite where something is not finite.
    """
    assert workload.oracle is not None
    exact = workload.oracle()
    made = workload.forward()
    with reference_backends():
        expected = exact.forward()
        if [one.shape for one in made] != [one.shape for one in expected]:
            return math.inf, "output's shape"
        upstream = upstream_of(made)
        wide = tuple(one.to(output.dtype) for one, output in zip(upstream, expected, strict=True))
        expected_gradients = gradients(exact, expected, wide)
    found = gradients(workload, made, upstream)
    errors = [(_error(one, other, 0.0), "output") for one, other in zip(made, expected, strict=True)]
    least = _LEAST * max((gradient.abs().max().item() for gradient in expected_gradients.values()), default=0.0)
    errors += [(_error(found[name], other, least), f"gradient of {name}") for name, other in expected_gradients.items()]
    return max(errors)


def upstream_of(made: Outputs) -> Outputs:
    """Gradients of outputs that are the same at every call: 1 for a loss, else random."""
    return tuple(
        torch.ones_like(output)
        if output.ndim == 0
        else torch.randn(output.shape, generator=torch.Generator().manual_seed(output.numel())).to(output)
        for output in made
    )


def gradients(workload: Workload, made: Outputs, upstream: Outputs) -> dict[str, Tensor]:
    """The gradient of every leaf, zero where it has none."""
    leaves = workload.leaves
    if not leaves:
        return {}
    found = torch.autograd.grad(made, list(leaves.values()), upstream, allow_unused=True)
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
