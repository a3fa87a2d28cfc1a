"""Deep Delta Learning and DeltaNet for PyTorch: the delta rule over depth and over time.

Public names are imported on first use, so that `import deep_delta` is cheap and `ddl --help` starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "delta_update": "deep_delta.ops",
    "delta_operator": "deep_delta.ops",
    "chunk_delta_rule": "deep_delta.ops",
    "recurrent_delta_rule": "deep_delta.ops",
    "delta_rule_step": "deep_delta.ops",
    "RMSNorm": "deep_delta.nn.norm",
    "SwiGLU": "deep_delta.nn.swiglu",
    "KBranch": "deep_delta.nn.branches",
    "BetaBranch": "deep_delta.nn.branches",
    "VBranch": "deep_delta.nn.branches",
    "DeltaBranches": "deep_delta.nn.branches",
    "DeltaResidual": "deep_delta.nn.delta_residual",
    "DeltaResidualExternal": "deep_delta.nn.delta_residual",
    "DeltaNet": "deep_delta.nn.delta_net",
    "DeltaNetBlock": "deep_delta.models.delta_net",
    "DeltaNetModel": "deep_delta.models.delta_net",
    "DdlTransformer": "deep_delta.models.transformer",
    "load_checkpoint": "deep_delta.training.checkpoint",
    "DdlConfig": "deep_delta.models.config",
    "TrainingConfig": "deep_delta.training.config",
    "VARIANTS": "deep_delta.models.variants",
    "variant_config": "deep_delta.models.variants",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from deep_delta.models.config import DdlConfig as DdlConfig
    from deep_delta.models.delta_net import DeltaNetBlock as DeltaNetBlock
    from deep_delta.models.delta_net import DeltaNetModel as DeltaNetModel
    from deep_delta.models.transformer import DdlTransformer as DdlTransformer
    from deep_delta.models.variants import VARIANTS as VARIANTS
    from deep_delta.models.variants import variant_config as variant_config
    from deep_delta.nn.branches import BetaBranch as BetaBranch
    from deep_delta.nn.branches import DeltaBranches as DeltaBranches
    from deep_delta.nn.branches import KBranch as KBranch
    from deep_delta.nn.branches import VBranch as VBranch
    from deep_delta.nn.delta_net import DeltaNet as DeltaNet
    from deep_delta.nn.delta_residual import DeltaResidual as DeltaResidual
    from deep_delta.nn.delta_residual import DeltaResidualExternal as DeltaResidualExternal
    from deep_delta.nn.norm import RMSNorm as RMSNorm
    from deep_delta.nn.swiglu import SwiGLU as SwiGLU
    from deep_delta.ops import chunk_delta_rule as chunk_delta_rule
    from deep_delta.ops import delta_operator as delta_operator
    from deep_delta.ops import delta_rule_step as delta_rule_step
    from deep_delta.ops import delta_update as delta_update
    from deep_delta.ops import recurrent_delta_rule as recurrent_delta_rule
    from deep_delta.training.checkpoint import load_checkpoint as load_checkpoint
    from deep_delta.training.config import TrainingConfig as TrainingConfig


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deep_delta' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
