"""One more token of a text, batch 1: every variant beside the additive one, and a DeltaNet beside its earlier self."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from deep_delta.benchmarks.case import Case, Counted, Group, Outputs, Plan, Setting, Workload
from deep_delta.benchmarks.suites.model import FIELDS_124M, QUICK
from deep_delta.benchmarks.suites.tensors import NETWORK
from deep_delta.evaluation.flops import flops_per_token
from deep_delta.models.cache import DecodeCache
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import VARIANTS, variant_config

POSITION = 1024
"""Tokens that have been read before."""
POSITIONS = (POSITION, 4096, 65_536)
"""The same, of a DeltaNet, whose token should cost the same at each."""
_CHECKED = 16
"""Those of the twin that is held against fp64."""
_CHUNK = 256
_TINY: dict[str, Any] = {"d_model": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 256}


def plan(setting: Setting) -> Plan:
    """At 124m, and at a tiny size where a token costs what the calls cost. In fp32 only."""
    if "fp32" not in setting.precisions:
        return Plan((), skipped={"decode/*": "tokens are decoded in fp32"})
    sizes = {"tiny": _TINY} if setting.quick else {"tiny": _TINY, "124m": FIELDS_124M}
    groups = [_variants(setting, size, fields) for size, fields in sizes.items()]
    groups += [_positions(setting, size, fields) for size, fields in sizes.items()]
    return Plan(tuple(groups))


def _variants(setting: Setting, size: str, fields: dict[str, Any]) -> Group:
    cases = tuple(
        decode_case(f"decode/{slug}/fp32/{size}-V4-B1T{POSITION}", variant_config(slug, **fields), POSITION)
        for slug in (QUICK if setting.quick else VARIANTS)
    )
    return Group(cases, cases[0].name)


def _positions(setting: Setting, size: str, fields: dict[str, Any]) -> Group:
    config = variant_config("baseline", **fields, mixer="deltanet")
    cases = tuple(
        decode_case(f"decode/deltanet/fp32/{size}-B1T{position}", config, position)
        for position in (POSITIONS[:2] if setting.quick else POSITIONS)
    )
    return Group(cases, cases[0].name)


def decode_case(name: str, config: DdlConfig, position: int) -> Case:
    """The logits [1, vocab_size] that follow one more token, with `position` tokens and one in the cache; every run is
    the same token. It is checked at a lower position."""
    config = config.model_copy(update={"max_seq_len": position + 2})
    flops = flops_per_token(config, position)
    products = flops.projections + flops.mixing + flops.generators + flops.head
    return Case(
        name=name,
        precision="fp32",
        build=partial(_build, config, position),
        build_checked=partial(_build, config, min(position, _CHECKED)),
        tolerance=NETWORK["fp32"],
        phases=("forward",),
        tokens=1,
        # every weight, key and value is four bytes that are read for one product and one sum
        counted=Counted(flops=flops.forward, bytes_moved=2 * products),
    )


def _build(config: DdlConfig, position: int, device: torch.device) -> Workload:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DdlTransformer(config).eval()
        ids = torch.randint(config.vocab_size, (1, position + 2))
    model, ids = model.to(device), ids.to(device)
    cache = _read(model, ids[:, :-1])

    @torch.inference_mode()
    def forward() -> Outputs:
        logits = model.next_logits(ids[:, -1:], copy.copy(cache))
        cache.reclaim()  # the next call continues from the same place
        return (logits,)

    def oracle() -> Workload:
        exact = copy.deepcopy(model).double()
        return Workload(lambda: (exact.next_logits(ids),), {})

    return Workload(forward, {}, oracle)


@torch.inference_mode()
def _read(model: DdlTransformer, ids: Tensor) -> DecodeCache:
    """A cache that holds these tokens. The last is read by itself, which leaves room for the next where it was full."""
    cache = model.new_cache(1)
    for piece in (*ids[:, :-1].split(_CHUNK, dim=1), ids[:, -1:]):
        model.next_logits(piece, cache)
    return cache
