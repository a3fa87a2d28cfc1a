"""Times as people write them: `4h`, `1h30m`, `90s`, or a number of seconds."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_PARTS = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit in _UNITS))


def seconds(value: Any) -> Any:
    """The seconds of a text as `1h30m`; a text without a unit is seconds, and any other value stays as it is.

    ValueError for a text that is no time.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        pass
    match = _PARTS.fullmatch(text)
    if match is None or not text:
        raise ValueError("a time is written as 4h, 1h30m, 90s or a number of seconds")
    return sum(float(number) * size for number, size in zip(match.groups(), _UNITS.values(), strict=True) if number)


Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0, le=1e9)]
"""Seconds, above 0."""
