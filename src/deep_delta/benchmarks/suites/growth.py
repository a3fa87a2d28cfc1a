"""How time grows with one size while the others stay: the delta update, the delta rule, and a model in its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deep_delta.benchmarks.case import Case, Group, GrowthPlan, Plan, Setting
from deep_delta.benchmarks.suites.model import fields_of, model_case
from deep_delta.benchmarks.suites.operator import DELTA_RULE, DELTA_UPDATE, Operator
from deep_delta.benchmarks.suites.tensors import Sizes
from deep_delta.models.variants import variant_config
from deep_delta.runs.benchmark import Phase

_UPDATE = {"B": 4, "T": 256, "D": 256, "V": 4}
_UPDATE_SIZES = {"T": (256, 512, 1024, 2048, 4096), "D": (128, 256, 512, 1024, 2048), "V": (1, 2, 4, 8)}
_RULE = {"B": 2, "H": 8, "T": 1024, "K": 64}
_RULE_SIZES = (1024, 2048, 4096, 8192, 16384)
_LAYERS = (1, 2, 4, 8)
_SLUG = "ddl-cc"
_PHASE: Phase = "forward_backward"


def plan(setting: Setting) -> Plan:
    few = 3 if setting.quick else None
    parts = [_operator(DELTA_UPDATE, _UPDATE, axis, sizes[:few]) for axis, sizes in _UPDATE_SIZES.items()]
    parts.append(_operator(DELTA_RULE, _RULE, "T", _RULE_SIZES[:few]))
    parts.append(_layers(setting, _LAYERS[1:3] if setting.quick else _LAYERS))
    return Plan(tuple(group for group, _ in parts), growth=tuple(growth for _, growth in parts))


def _operator(operator: Operator, usual: Sizes, axis: str, sizes: Sequence[int]) -> tuple[Group, GrowthPlan]:
    cases = {size: operator.case(f"growth/{axis}", "auto", "fp32", {**usual, axis: size}) for size in sizes}
    cases = {size: replace(case, phases=(_PHASE,)) for size, case in cases.items()}
    return _part(f"growth/{axis}/{operator.name}", axis, cases)


def _layers(setting: Setting, sizes: Sequence[int]) -> tuple[Group, GrowthPlan]:
    _, fields, batch = fields_of(setting)
    cases = {}
    for layers in sizes:
        config = variant_config(_SLUG, **{**fields, "num_layers": layers})
        cases[layers] = model_case(f"growth/layers/{_SLUG}/eager/fp32/L{layers}", config, batch, "fp32")
    return _part(f"growth/layers/{_SLUG}", "layers", cases)


def _part(name: str, axis: str, cases: dict[int, Case]) -> tuple[Group, GrowthPlan]:
    rows = {size: case.row(_PHASE) for size, case in cases.items()}
    return Group(tuple(cases.values()), keeps_memory=True), GrowthPlan(name, axis, rows)
