"""What a benchmark times: a case is one function at one setting, and each of its phases is a row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from deep_delta.runs.benchmark import Phase, Precision

Op = Callable[..., Any]
"""A function of named tensors that returns a tensor, or a tuple of them."""
Outputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Workload:
    """Tensors, and a function of them."""

    forward: Callable[[], Outputs]
    leaves: Mapping[str, Tensor]
    """what gradients are taken of; none where there is only a forward phase"""
    oracle: Callable[[], Workload] | None = None
    """the same in fp64, by the definition"""
    reference: Callable[[], Workload] | None = None
    """the same in the workload's own precision, by the definition"""
    parameters: tuple[Tensor, ...] = ()
    """those of the leaves that a model holds anyway"""
    step: Callable[[], None] | None = None
    """one whole training step"""


@dataclass(frozen=True)
class Counted:
    """Operations and bytes of one forward pass, and of forward and backward together."""

    flops: int | None = None
    bytes_moved: int | None = None
    training_flops: int | None = None
    training_bytes: int | None = None

    def flops_of(self, phase: Phase) -> int | None:
        return {"forward": self.flops, "forward_backward": self.training_flops, "step": self.training_flops}[phase]

    def bytes_of(self, phase: Phase) -> int | None:
        return {"forward": self.bytes_moved, "forward_backward": self.training_bytes, "step": None}[phase]


@dataclass(frozen=True)
class Case:
    """One row per phase. Nothing is allocated before `build`."""

    name: str
    """suite/what/…/precision/shape"""
    precision: Precision
    build: Callable[[torch.device], Workload]
    tolerance: float
    """largest relative error against fp64 that counts as correct"""
    phases: tuple[Phase, ...] = ("forward", "forward_backward")
    tokens: int | None = None
    counted: Counted = field(default_factory=Counted)
    build_checked: Callable[[torch.device], Workload] | None = None
    """a smaller twin that is checked instead, where fp64 would take too long"""
    unavailable: Callable[[torch.device], str | None] = lambda _: None
    """why it cannot run on a device; None when it can"""

    @property
    def suite(self) -> str:
        return self.name.split("/", 1)[0]

    def row(self, phase: Phase) -> str:
        return f"{self.name}/{phase}"


@dataclass(frozen=True)
class Group:
    """Cases that are timed in turns, so that their ratios mean something."""

    cases: tuple[Case, ...]
    relative_to: str | None = None
    """the name of the case that the others are relative to; None where ratios would mean nothing"""
    keeps_memory: bool = False
    """measured as training runs, which keeps freed memory; the others with the system's own allocator"""


@dataclass(frozen=True)
class GrowthPlan:
    """Which rows tell how time grows with one size."""

    name: str
    axis: str
    points: Mapping[int, str]
    """size → row"""


@dataclass(frozen=True)
class CrossingPlan:
    """Which rows tell from which size on one is faster than another."""

    name: str
    other: str
    points: Mapping[int, tuple[str, str]]
    """size → the row of each"""


@dataclass(frozen=True)
class Plan:
    """A suite: its groups, what is read from their rows together, and what cannot be measured, with reasons."""

    groups: tuple[Group, ...]
    growth: tuple[GrowthPlan, ...] = ()
    crossings: tuple[CrossingPlan, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """What every suite is asked for."""

    device: torch.device
    precisions: tuple[Precision, ...]
    compile: bool = False
    """models, and the blocks of them, also compiled"""
    quick: bool = False
    """a part of the rows"""
    skipped: Mapping[Precision, str] = field(default_factory=dict)
    """precisions in which models are not worth timing here, and why"""


def op_workload(run: Op, definition: Op, tensors: Mapping[str, Tensor]) -> Workload:
    """A function of tensors, all of which get gradients, and its definition, which runs on the same numbers in fp64."""

    def of(op: Op, *, exact: bool = False) -> Workload:
        given = {name: tensor.detach() for name, tensor in tensors.items()}
        leaves = {name: (tensor.double() if exact else tensor).requires_grad_() for name, tensor in given.items()}
        return Workload(lambda: outputs(op(**leaves)), leaves)

    return replace(of(run), oracle=lambda: of(definition, exact=True), reference=lambda: of(definition))


def module_workload(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    run: Callable[..., Any] | None = None,
    *,
    definition: Callable[..., Any] | None = None,
    autocast: torch.dtype | None = None,
    compiled: bool = False,
    make_step: Callable[[], Callable[[], None]] | None = None,
) -> Workload:
    """A module and its inputs; floating-point inputs get gradients, as the parameters do.

    run: called with the module and the tensors by name; the module itself when unset.
    definition: what the fp64 copy is run by instead.
    autocast: the precision of the computation, parameters staying fp32.
    """
    inputs = {name: _leaf(tensor) for name, tensor in tensors.items()}
    parameters = dict(module.named_parameters())
    call = run if run is not None else lambda module, **given: module(**given)

    by = call if definition is None else definition
    leaves = _gradient_of(parameters, inputs)

    def forward(call: Callable[..., Any] = call) -> Outputs:
        with torch.autocast(next(iter(inputs.values())).device.type, autocast, enabled=autocast is not None):
            return outputs(call(module, **inputs))

    def oracle() -> Workload:
        exact = copy.deepcopy(module).double()
        given = {
            name: _leaf(tensor.detach().double() if tensor.is_floating_point() else tensor)
            for name, tensor in tensors.items()
        }
        return Workload(lambda: outputs(by(exact, **given)), _gradient_of(dict(exact.named_parameters()), given))

    return Workload(
        torch.compile(forward, dynamic=False) if compiled else forward,
        leaves,
        oracle,
        reference=lambda: Workload(lambda: forward(by), leaves),
        parameters=tuple(parameters.values()),
        step=None if make_step is None else make_step(),
    )


def outputs(returned: Any) -> Outputs:
    """What a function returned, as a tuple of tensors."""
    return (returned,) if isinstance(returned, Tensor) else tuple(returned)


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor


def _gradient_of(parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**parameters, **{name: tensor for name, tensor in inputs.items() if tensor.requires_grad}}
