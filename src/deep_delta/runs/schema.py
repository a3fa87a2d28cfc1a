"""JSON schemas of records; the docstrings below their fields become descriptions."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from pydantic import TypeAdapter

from deep_delta.runs.record import Record


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of a record, or of a union of records."""
    found: dict[str, Any] = TypeAdapter(kind).json_schema()
    records = {record.__name__: record for record in _records(Record)}
    places = dict(found.get("$defs", {}))
    if isinstance(kind, type):
        places[kind.__name__] = found
    for name, place in places.items():
        fields = _field_docstrings(records[name]) if name in records else {}
        for field, about in place.get("properties", {}).items():
            if field in fields:
                about.setdefault("description", fields[field])
            about.pop("title", None)
    return found


def _records(base: type[Record]) -> list[type[Record]]:
    return [found for record in base.__subclasses__() for found in (record, *_records(record))]


def _field_docstrings(record: type[Record]) -> dict[str, str]:
    """The string below each field of a class and of those that it extends."""
    found: dict[str, str] = {}
    for part in reversed(record.__mro__):
        if not issubclass(part, Record) or part is Record:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if (
                isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = inspect.cleandoc(below.value.value).replace("\n", " ")
    return found
