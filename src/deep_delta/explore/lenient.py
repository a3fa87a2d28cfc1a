"""Result files as records, also those of newer versions: looking passes over what it does not know."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from deep_delta.runs.record import Record, first_problem

AnyRecord = TypeVar("AnyRecord", bound=Record)
_LIMIT = 1 << 30


class Unreadable(Exception):
    """Why a file cannot be shown, as one line."""


def read_json(path: Path) -> Any:
    """What a file holds. `Unreadable` where it is missing, no plain file, too long or no JSON."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable(f"{path} is not a plain file")
        if found.st_size > _LIMIT:
            raise Unreadable(f"{path} is longer than {_LIMIT >> 30} GiB, so it is no result of ddl")
        content = file.read(_LIMIT)
    try:
        return from_json(content)
    except ValueError as error:
        what = "is empty" if not content.strip() else f"is damaged: {str(error)[:100]}"
        raise Unreadable(f"{path} {what}") from None


def read_leniently(kind: type[AnyRecord], content: Any, path: Path) -> tuple[AnyRecord, str | None]:
    """The record in `content`, and a notice where fields were passed over or it says that it is of another version.

    `Unreadable` where something that is needed is missing or of a wrong type.
    """
    unknown: list[str] = []
    other_version = None
    for _ in range(100):
        try:
            return kind.model_validate_json(_dump(content)), _notice(path, unknown, other_version)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            extra = [one["loc"] for one in problems if one["type"] == "extra_forbidden"]
            versions = [one for one in problems if one["loc"] == ("format_version",)]
            if versions and isinstance(content, dict):
                other_version = content.pop("format_version", None)
            for place in extra:
                unknown.append(str(place[-1]))
                _remove(content, place)
            if not extra and not versions:
                raise Unreadable(f"{path} cannot be shown: {first_problem(error)}") from None
    raise Unreadable(f"{path} cannot be shown: too little of it is known")


def _dump(content: Any) -> bytes:
    return to_json(content, inf_nan_mode="null")


def _remove(content: Any, place: tuple[int | str, ...]) -> None:
    for part in place[:-1]:
        if not isinstance(content, (dict, list)):
            return
        content = content[part]  # type: ignore[index]
    if isinstance(content, dict):
        content.pop(place[-1], None)


def _notice(path: Path, unknown: list[str], version: Any) -> str | None:
    if version is None and not unknown:
        return None
    names = ", ".join(dict.fromkeys(unknown))
    said = [] if version is None else [f"it says format version {version}"]
    said += [f"unknown fields are passed over: {names[:80]}"] if unknown else []
    return f"{path} was written by a newer version; {'; '.join(said)}"
