"""The stand-alone DeltaResidual, and one block of the transformer in each variant beside the additive one."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Case, Counted, Group, Plan, Setting, Workload, module_workload
from deep_delta.benchmarks.ceilings import DTYPES
from deep_delta.benchmarks.suites.model import QUICK, fields_of
from deep_delta.benchmarks.suites.tensors import NETWORK, gate, normal, shape_name
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import Block
from deep_delta.models.variants import VARIANTS, variant_config
from deep_delta.nn.delta_residual import DeltaResidual
from deep_delta.nn.residual import Rewrite
from deep_delta.nn.rotary import rotary_table
from deep_delta.runs.benchmark import Precision


def plan(setting: Setting) -> Plan:
    precisions = [one for one in setting.precisions if one not in setting.skipped]
    skipped = {f"block/*/{one}": why for one, why in setting.skipped.items() if one in setting.precisions}
    ways = ("eager", "compiled") if setting.compile else ("eager",)
    groups = [_residuals(setting, precision) for precision in precisions]
    groups += [_blocks(setting, precision, way) for precision in precisions for way in ways]
    return Plan(tuple(groups), skipped=skipped)


def _residuals(setting: Setting, precision: Precision) -> Group:
    _, fields, batch = fields_of(setting)

    def build(V: int, device: torch.device) -> Workload:
        D, T = fields["d_model"], fields["max_seq_len"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            block = DeltaResidual(D, V).to(device)
        x = normal(batch, T, D, V, precision=precision, device=device)
        return module_workload(block, {"x": x}, autocast=_autocast(precision))

    def case(V: int) -> Case:
        sizes = {"B": batch, "T": fields["max_seq_len"], "D": fields["d_model"], "V": V}
        name = f"block/delta_residual/{precision}/{shape_name(sizes)}"
        tokens = batch * fields["max_seq_len"]
        return Case(name, precision, partial(build, V), NETWORK[precision], tokens=tokens)

    return Group(tuple(case(V) for V in ((4,) if setting.quick else (1, 4, 8))), keeps_memory=True)


def _blocks(setting: Setting, precision: Precision, way: str) -> Group:
    size, fields, batch = fields_of(setting)
    fields = {**fields, "num_layers": 1}
    cases = tuple(
        _block(
            f"block/{slug}/{way}/{precision}/{size}-V4-B{batch}T{fields['max_seq_len']}", slug, fields, batch, precision
        )
        for slug in (QUICK if setting.quick else VARIANTS)
    )
    return Group(cases, cases[0].name, keeps_memory=True)


def _block(name: str, slug: str, fields: dict[str, Any], batch: int, precision: Precision) -> Case:
    """A block in the middle of a model: it writes what the sublayer before it proposed, and its own last proposal."""
    config = variant_config(slug, **fields)

    def build(device: torch.device) -> Workload:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            block = Block(config, layer=0).to(device)
        B, T, V, D = batch, config.max_seq_len, config.d_value, config.d_model
        of: dict[str, Any] = {"precision": precision, "device": device}
        inputs = {"state": normal(B, T, V, D, seed=1, **of), "direction": normal(B, T, D, seed=2, **of)}
        if config.residual != "additive":
            inputs |= {"value": normal(B, T, V, seed=3, **of), "beta": gate(B, T, 1, seed=4, device=device)}
        return module_workload(
            block,
            inputs,
            partial(_run_block, config),
            autocast=_autocast(precision),
            compiled="/compiled/" in name,
        )

    return Case(name, precision, build, NETWORK[precision], tokens=batch * config.max_seq_len, counted=Counted())


def _run_block(
    config: DdlConfig,
    block: Block,
    state: Tensor,
    direction: Tensor,
    value: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    rotary = rotary_table(0, state.shape[1], config.rotary_dim, config.rope_theta, state.device)
    state, *rewrite = block(state, direction, value, beta, rotary=rotary)
    return block.mlp.stream.write(state, Rewrite(*rewrite))


def _autocast(precision: Precision) -> torch.dtype | None:
    return None if precision == "fp32" else DTYPES[precision]
