"""All variants of the transformer beside the additive baseline: forward, forward and backward, a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, get_args

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Case, Counted, Group, Plan, Setting, Workload, module_workload
from deep_delta.benchmarks.ceilings import DTYPES
from deep_delta.benchmarks.correctness import reference_backends
from deep_delta.benchmarks.suites.tensors import NETWORK
from deep_delta.benchmarks.training_step import training_step
from deep_delta.evaluation.flops import flops_per_token
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import VARIANTS, variant_config
from deep_delta.runs.benchmark import Phase, Precision
from deep_delta.training.config import TrainingConfig

QUICK = ("baseline", "ddl", "ddl-cc-ec")
PLAIN = "-plain"
_SMALL: dict[str, Any] = {"d_model": 256, "num_layers": 6, "num_heads": 4, "vocab_size": 4096, "max_seq_len": 256}
FIELDS_124M: dict[str, Any] = {
    "d_model": 768,
    "num_layers": 12,
    "num_heads": 6,
    "vocab_size": 50304,
    "max_seq_len": 1024,
}


def plan(setting: Setting) -> Plan:
    precisions = [one for one in setting.precisions if one not in setting.skipped]
    skipped = {f"model/*/{one}": why for one, why in setting.skipped.items() if one in setting.precisions}
    ways = ("eager", "compiled") if setting.compile else ("eager",)
    return Plan(tuple(_group(setting, precision, way) for precision in precisions for way in ways), skipped=skipped)


def fields_of(setting: Setting) -> tuple[str, dict[str, Any], int]:
    """Name, fields and batch size of the models: size small on a CPU, 124m on a GPU."""
    return ("124m", FIELDS_124M, 8) if setting.device.type == "cuda" else ("small", _SMALL, 4)


def _group(setting: Setting, precision: Precision, way: str) -> Group:
    size, fields, batch = fields_of(setting)
    phases: tuple[Phase, ...] = ("forward_backward",) if setting.quick else ("forward", "forward_backward", "step")
    cases = tuple(
        model_case(
            f"model/{name}/{way}/{precision}/{size}-V4-B{batch}T{config.max_seq_len}",
            config,
            batch,
            precision,
            phases=phases,
            compiled=way == "compiled",
            plain=name.endswith(PLAIN),
        )
        for name, config in _models(setting, fields)
        if way == "eager" or not name.endswith(PLAIN)
    )
    return Group(cases, cases[0].name, keeps_memory=True)


def _models(setting: Setting, fields: dict[str, Any]) -> Iterator[tuple[str, DdlConfig]]:
    """Every variant, and each with gates once more for every other way to store its state; two of them once more in
    plain PyTorch operations, which is what the project's own operators are worth."""
    for slug in QUICK if setting.quick else VARIANTS:
        config = variant_config(slug, **fields)
        yield slug, config
        if slug in ("baseline", "ddl-cc-ec") and not setting.quick:
            yield slug + PLAIN, config
        if config.residual == "additive":
            continue
        for storage in get_args(DdlConfig.model_fields["state_storage"].annotation):
            if storage != config.state_storage:
                yield f"{slug}-{storage}", variant_config(slug, **fields, state_storage=storage)


def model_case(
    name: str,
    config: DdlConfig,
    batch: int,
    precision: Precision,
    *,
    phases: tuple[Phase, ...] = ("forward_backward",),
    compiled: bool = False,
    plain: bool = False,
) -> Case:
    """The loss of a model on random tokens; `plain` by the operators' definitions."""

    def loss(model: DdlTransformer, ids: Tensor, targets: Tensor) -> Tensor:
        with reference_backends() if plain else nullcontext():
            loss: Tensor = model(ids, targets)
            return loss

    def build(device: torch.device) -> Workload:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = DdlTransformer(config)
            tokens = torch.randint(config.vocab_size, (batch, config.max_seq_len + 1))
        model, tokens = model.to(device), tokens.to(device)
        sizes = {"batch_size": batch, "seq_len": config.max_seq_len}
        training = TrainingConfig.model_validate({**sizes, "precision": precision, "compile": compiled})
        return module_workload(
            model,
            {"ids": tokens[:, :-1].contiguous(), "targets": tokens[:, 1:].contiguous()},
            loss,
            autocast=None if precision == "fp32" else DTYPES[precision],
            compiled=compiled,
            make_step=(lambda: training_step(model, training)) if "step" in phases and not plain else None,
        )

    tokens = batch * config.max_seq_len
    flops = flops_per_token(config, config.max_seq_len)
    return Case(
        name=name,
        precision=precision,
        build=build,
        tolerance=NETWORK[precision],
        phases=tuple(phase for phase in phases if phase != "step" or not plain),
        tokens=tokens,
        counted=Counted(flops=tokens * flops.forward, training_flops=tokens * flops.training),
    )
