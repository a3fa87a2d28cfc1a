"""What a command saved on request: a JSON file that is read back whole, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from deep_delta.errors import DataError
from deep_delta.runs.record import Record

_LIMIT = 1 << 26


class Result(Record):
    """A record that `--save` of a command writes. `noun` and `command` name them in errors."""

    noun: ClassVar[str]
    command: ClassVar[str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a saved file; `DataError` where it is missing, damaged or of another format version."""
        remedy = f"give a file that `{cls.command} --save` wrote"
        if not path.is_file():
            raise DataError(f"there is no {cls.noun} {path}; {remedy}")
        try:
            with path.open("rb") as file:
                content = file.read(_LIMIT + 1)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}; {remedy}") from None
        if len(content) > _LIMIT:
            raise DataError(f"{path} is longer than {_LIMIT} bytes, so it is no {cls.noun}; {remedy}")
        return cls.from_json(content, error=DataError, where=str(path))
