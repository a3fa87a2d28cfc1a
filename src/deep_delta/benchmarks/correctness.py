"""A row is timed only after its outputs and gradients have been held against the definition in fp64."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Case, Outputs, Workload
from deep_delta.ops.dispatch import ENVIRONMENT


class Judgement(NamedTuple):
    """The tensor that is furthest from right: its error, how much is allowed, both relative, and its name."""

    error: float
    allowed: float
    name: str

    @property
    def is_right(self) -> bool:
        return self.error <= self.allowed

    def __str__(self) -> str:
        return f"the {self.name} is off by {self.error:.1e} of its size, {self.allowed:.2g} is allowed"


def judge_case(case: Case, device: torch.device) -> Judgement:
    """Build a case, or the smaller twin that is checked instead, and judge it in its precision."""
    workload = (case.build_checked or case.build)(device)
    return judge_workload(workload, case.tolerance, low_precision=case.precision != "fp32")


def judge_workload(workload: Workload, tolerance: float, *, low_precision: bool = False) -> Judgement:
    """The outputs and every gradient against the oracle, with the same upstream gradients.

    low_precision: judge gradients by those of plain operations in the same precision too (`judge_gradients`).
    """
    assert workload.oracle is not None
    exact = workload.oracle()
    made = workload.forward()
    with reference_backends():
        expected = exact.forward()
        if [one.shape for one in made] != [one.shape for one in expected]:
            return Judgement(math.inf, tolerance, "output's shape")
        upstream = upstream_of(made)
        wide = tuple(one.to(output.dtype) for one, output in zip(upstream, expected, strict=True))
        expected_gradients = gradients(exact, expected, wide)
    found = gradients(workload, made, upstream)

    def by_plain_operations() -> dict[str, Tensor]:
        assert workload.reference is not None
        plain = workload.reference()
        with reference_backends():
            outputs = plain.forward()
            given = tuple(one.to(output.dtype) for one, output in zip(upstream, outputs, strict=True))
            return gradients(plain, outputs, given)

    reference = by_plain_operations if low_precision and workload.reference is not None else None
    judged = [Judgement(relative_error(*pair), tolerance, "output") for pair in zip(made, expected, strict=True)]
    if expected_gradients:
        worst = judge_gradients(found, expected_gradients, tolerance, reference)
        judged.append(worst._replace(name=f"gradient of {worst.name}"))
    return max(judged, key=_excess)


def judge_gradients(
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    tolerance: float,
    reference: Callable[[], Mapping[str, Tensor]] | None = None,
) -> Judgement:
    """The one of some gradients that is furthest from right: the rule for every benchmark and test of a network.

    A bias's gradient is a sum over tokens that may cancel, so that its size says nothing about its rounding; the
    gradient of its layer's weight sums the same terms, times inputs, and is its scale too.
    reference: for low precision, the gradients that plain operations make in it; an error may be twice as large as
    theirs. It is called only where something is beyond the tolerance.
    """
    scales = {name: _layer_scale(name, expected) for name in expected}
    judged = [
        Judgement(relative_error(found[name], other, scales[name]), tolerance, name) for name, other in expected.items()
    ]
    if reference is not None and not all(one.is_right for one in judged):
        plain = reference()
        theirs = {name: relative_error(plain[name], other, scales[name]) for name, other in expected.items()}
        judged = [
            one._replace(allowed=max(tolerance, 2 * theirs[one.name])) if math.isfinite(theirs[one.name]) else one
            for one in judged
        ]
    return max(judged, key=_excess)


def relative_error(actual: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """max|a − b| / max(max|b|, least), in fp64; infinite where either is not finite."""
    if actual.shape != expected.shape:
        raise AssertionError(f"shapes differ: {tuple(actual.shape)} and {tuple(expected.shape)}")
    if expected.numel() == 0:
        return 0.0
    actual, expected = actual.detach().double(), expected.detach().double()
    scale = max(expected.abs().max().item(), least) or 1.0
    error = (actual - expected).abs().max().item() / scale
    return error if math.isfinite(error) else math.inf


def upstream_of(made: Outputs) -> Outputs:
    """Gradients of outputs that are the same at every call: 1 for a loss, else random."""
    return tuple(torch.ones_like(output) if output.ndim == 0 else _drawn_like(output) for output in made)


def _drawn_like(output: Tensor) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(output.numel())
    return torch.randn(output.shape, generator=generator, dtype=torch.float32, device="cpu").to(output)


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


def _layer_scale(name: str, gradients: Mapping[str, Tensor]) -> float:
    """The largest entry of the gradient of a bias's weight (layer.bias and layer.weight, gate_bias and gate); of a
    tensor's own, where it is no bias."""
    weight = gradients.get(f"{name[:-4]}weight" if name.endswith(".bias") else name.removesuffix("_bias"))
    return 0.0 if weight is None or weight.numel() == 0 else weight.abs().max().item()


def _excess(judgement: Judgement) -> float:
    return judgement.error / judgement.allowed
