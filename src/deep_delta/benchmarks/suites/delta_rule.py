"""The delta rule over time, in versions of the package that have it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

_NAME = "deep_delta.ops.delta_rule"
ABSENT = f"this version has no {_NAME}"


def delta_rule() -> ModuleType | None:
    """The operator's package; None where there is none."""
    return importlib.import_module(_NAME) if importlib.util.find_spec(_NAME) else None
