"""Tables and numbers as a page shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deep_delta.explore import Table
from deep_delta.report.html import Html, tag

_NONE = "–"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LARGE = 1e9


def table(shown: Table, caption: str | None = None) -> Html:
    """A table with its note; one without rows is a line that says so. Wide ones scroll by themselves."""
    title = shown.name if caption is None else caption
    note = tag("p", shown.note, class_="note") if shown.note else None
    if not shown.rows:
        return tag("div", tag("h3", title), note or tag("p", "nothing to show", class_="note"))
    numeric = [_is_numeric([row[place] for row in shown.rows]) for place in range(len(shown.columns))]
    words = list(zip(*(_column(row_values) for row_values in zip(*shown.rows, strict=True)), strict=True))
    kinds = ["number" if each else None for each in numeric]
    head = [tag("th", name, class_=kind, scope="col") for name, kind in zip(shown.columns, kinds, strict=True)]
    body = [tag("tr", [tag("td", word, class_=kind) for word, kind in zip(row, kinds, strict=True)]) for row in words]
    caption_ = tag("caption", title) if title else None
    content = tag("table", caption_, tag("thead", tag("tr", head)), tag("tbody", body))
    return tag("div", tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=title), note)


def without_empty(shown: Table) -> Table:
    """Without the columns in which no row has anything."""
    kept = [place for place in range(len(shown.columns)) if any(row[place] not in (None, "") for row in shown.rows)]
    return shown._replace(
        columns=tuple(shown.columns[place] for place in kept),
        rows=[tuple(row[place] for place in kept) for row in shown.rows],
    )


def _is_numeric(values: Sequence[object]) -> bool:
    found = [value for value in values if value is not None]
    return bool(found) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)


def _column(values: Sequence[object]) -> list[str]:
    """A column in words: fractions of similar size with the same number of decimals."""
    floats = [abs(value) for value in values if isinstance(value, float) and math.isfinite(value) and value != 0]
    if len(floats) < 2 or not 1e-3 <= max(floats) < 1e4:
        return [cell(value) for value in values]
    decimals = max(0, 3 - math.floor(math.log10(max(floats))))
    return [
        _signed(f"{value:,.{decimals}f}") if isinstance(value, float) and math.isfinite(value) else cell(value)
        for value in values
    ]


def cell(value: object) -> str:
    """A value in words."""
    match value:
        case None:
            return _NONE
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number(value)
    return str(value)


def number(value: float) -> str:
    """1,234 · 0.01235 · 2.47 × 10¹²."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= _LARGE or 0 < size < 1e-4:
        mantissa, exponent = f"{value:.2e}".split("e")
        return _signed(f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}")
    if float(value).is_integer() and (isinstance(value, int) or size >= 1000):
        return _signed(f"{int(value):,}")
    return _signed(f"{value:,.0f}" if size >= 1e5 else f"{value:,.4g}" if size < 1000 else f"{value:,.1f}")


def _signed(text: str) -> str:
    return f"−{text[1:]}" if text.startswith("-") else text


def duration(seconds: float) -> str:
    """42 s · 12 min 34 s · 5 h 06 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(whole, 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02} min" if hours else f"{minutes} min {rest:02} s"
