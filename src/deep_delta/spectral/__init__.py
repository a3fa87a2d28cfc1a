"""What the gates learned: regimes, per-layer measures and their collector.

Names are imported on first use: `regime` of a number and the records need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "REGIMES": "deep_delta.spectral.regimes",
    "regime": "deep_delta.spectral.regimes",
    "k_eigenvalue": "deep_delta.spectral.regimes",
    "determinant": "deep_delta.spectral.regimes",
    "lifted_determinant": "deep_delta.spectral.regimes",
    "UpdateSpectrum": "deep_delta.spectral.records",
    "SublayerSpectrum": "deep_delta.spectral.records",
    "LayerSummary": "deep_delta.spectral.records",
    "summarize": "deep_delta.spectral.records",
    "measure": "deep_delta.spectral.measures",
    "collect": "deep_delta.spectral.collector",
    "NothingToCollectError": "deep_delta.spectral.collector",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from deep_delta.spectral.collector import NothingToCollectError as NothingToCollectError
    from deep_delta.spectral.collector import collect as collect
    from deep_delta.spectral.measures import measure as measure
    from deep_delta.spectral.records import LayerSummary as LayerSummary
    from deep_delta.spectral.records import SublayerSpectrum as SublayerSpectrum
    from deep_delta.spectral.records import UpdateSpectrum as UpdateSpectrum
    from deep_delta.spectral.records import summarize as summarize
    from deep_delta.spectral.regimes import REGIMES as REGIMES
    from deep_delta.spectral.regimes import determinant as determinant
    from deep_delta.spectral.regimes import k_eigenvalue as k_eigenvalue
    from deep_delta.spectral.regimes import lifted_determinant as lifted_determinant
    from deep_delta.spectral.regimes import regime as regime


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deep_delta.spectral' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
