"""What is measured, one file a suite; `SUITES` in `runs.benchmark` says what each is about."""

from __future__ import annotations

from collections.abc import Callable

from deep_delta.benchmarks.case import Plan, Setting
from deep_delta.benchmarks.suites import block, compressor, decode, growth, model, normalization, operator, peers

PLANS: dict[str, Callable[[Setting], Plan]] = {
    "operator": operator.plan,
    "block": block.plan,
    "compressor": compressor.plan,
    "normalization": normalization.plan,
    "model": model.plan,
    "decode": decode.plan,
    "peers": peers.plan,
    "growth": growth.plan,
}
