"""The base of every configuration, manifest and report: a frozen, strict pydantic model whose errors are one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from deep_delta.errors import ConfigError, DeepDeltaError


class Record(BaseModel):
    """Frozen; unknown fields, non-finite numbers and wrong types (`true` for 1, "3" for 3) are errors.

    Constructing one raises `ConfigError`; `from_json` raises the error type that its caller names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=False)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(f"{type(self).__name__}: {first_problem(error)}") from None

    # Else pydantic would read JSON through this __init__, as Python values: no list could become a tuple.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_json(cls, text: str | bytes, *, error: type[DeepDeltaError], where: str) -> Self:
        """Read a record that was written to a file; anything unusual raises `error` naming `where`.

        Stricter than JSON: duplicate keys, NaN and numbers beyond the range of a float are refused.
        """
        try:
            strict_json(text)
            return cls.model_validate_json(text, strict=True)
        except ValidationError as problem:
            raise error(f"{where}: {first_problem(problem)}") from None
        except ValueError as problem:
            raise error(f"{where}: {problem}") from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with the fields of `update` changed: constructed anew, so it is as valid as any other.

        Fields that were left out stay left out, so that what follows from others follows again. ConfigError.
        """
        copy = super().model_copy(deep=deep)
        if not update:
            return copy
        return type(self)(**{name: getattr(copy, name) for name in copy.model_fields_set} | dict(update))

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def strict_json(text: str | bytes) -> Any:
    """`json.loads`, which also refuses (ValueError) duplicate keys, NaN, numbers beyond a float and deep nesting."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def first_problem(error: ValidationError) -> str:
    """One line for the first thing wrong: field, rule and the value that was given."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(repr(part)[1:-1] if isinstance(part, str) else str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{field}'"
    if problem["type"] == "missing":
        return f"{field} is required"
    if not field:
        return message
    return f"{field}: {message[:1].lower()}{message[1:]}, got {_short(problem['input'])}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that may stand here")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is beyond the range of a float")
    return number
