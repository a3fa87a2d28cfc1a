"""Columns of numbers and words in few bytes; page.js unpacks them."""

from __future__ import annotations

from typing import Any

from deep_delta.report.chart import Column


def packed(column: Column) -> Any:
    """A list as it is; {"same": value, "n": rows} where all are equal; {"words": [...], "at": [...]} for few words."""
    if not column:
        return []
    if all(type(value) is type(column[0]) and value == column[0] for value in column):
        return {"same": column[0], "n": len(column)}
    if isinstance(column[0], str):
        words = list(dict.fromkeys(column))
        places = {word: place for place, word in enumerate(words)}
        return {"words": words, "at": [places[value] for value in column]}
    return [
        int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
        for value in column
    ]
