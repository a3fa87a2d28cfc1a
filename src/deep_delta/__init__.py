"""Deep Delta Learning and DeltaNet for PyTorch: the delta rule over depth and over time.

Public names are imported on first use, so that `import deep_delta` is cheap and `ddl --help` starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "DdlConfig": "deep_delta.models.config",
    "TrainingConfig": "deep_delta.training.config",
    "VARIANTS": "deep_delta.models.variants",
    "variant_config": "deep_delta.models.variants",
}

__all__ = sorted(_HOME)  # noqa: PLE0605

if TYPE_CHECKING:
    from deep_delta.models.config import DdlConfig as DdlConfig
    from deep_delta.models.variants import VARIANTS as VARIANTS
    from deep_delta.models.variants import variant_config as variant_config
    from deep_delta.training.config import TrainingConfig as TrainingConfig


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deep_delta' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
