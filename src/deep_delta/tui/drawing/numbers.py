"""Numbers as short text: values, and the ticks of an axis, from 1e-300 to 1e300."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Kind = Literal["plain", "count", "seconds"]
"""a measure; how many there are (k, M, G …); a duration"""

_LONGEST = 8  # characters of a label
_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 4) -> str:
    """2.314 · 0.0123 · 3.2e-9 · 1.5e9 · nan · – for none: about `digits` significant digits."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 < exponent < 6:
        return f"{value:.{max(0, digits - 1 - exponent)}f}"
    return _scientific(value, exponent, digits - 2)


def count(value: float | None, digits: int = 3) -> str:
    """123 · 1.23k · 45.6M · 7.89G: a large number in at most six characters."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    for least, unit in _UNITS:
        if abs(value) >= least * 0.9995:
            scaled = value / least
            if abs(scaled) >= 1e4:
                return _scientific(value, math.floor(math.log10(abs(value))), 1)
            return f"{scaled:.{max(0, digits - 1 - math.floor(math.log10(max(1.0, abs(scaled)))))}f}{unit}"
    return f"{value:.0f}" if value == round(value) else number(value, digits)


def duration(seconds: float) -> str:
    """12 s · 3:07 · 5:06:07 · 2 d 3 h"""
    if not math.isfinite(seconds):
        return str(seconds)
    if abs(seconds) < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def exact(value: float, kind: Kind) -> str:
    """One place on an axis, as the cursor says it."""
    if kind == "seconds":
        return duration(value)
    if kind == "count":
        return f"{value:,.0f}" if abs(value) < 1e7 else count(value, 4)
    return number(value)


def tick_labels(ticks: Sequence[float], step: float, kind: Kind = "plain") -> tuple[list[str], str]:
    """Labels that differ, as short as can be, and what has to be added to each of them ("" for nothing): a small range
    of large values says that once.

    ticks: multiples of `step`, ascending, at least one.
    """
    labels = _labels(ticks, step, kind)
    if len(set(labels)) == len(labels) and max(map(len, labels)) <= _LONGEST:
        return labels, ""
    base = ticks[0]
    relative = [round((tick - base) / step) * step for tick in ticks]
    return [f"+{label}" for label in _labels(relative, step, "plain")], f"{base:.12g}"


def _labels(ticks: Sequence[float], step: float, kind: Kind) -> list[str]:
    largest = max(map(abs, ticks))
    if largest == 0:
        return ["0"] * len(ticks)
    if kind == "seconds" and step >= 1e-3 and largest < 1e8:
        return _durations(ticks, step)
    if kind == "count" and largest >= 1e3:
        for least, unit in _UNITS:
            if largest >= least and largest / least < 1e4:
                decimals = _decimals(step / least)
                return [_zero(f"{tick / least:.{decimals}f}{unit}") if tick else "0" for tick in ticks]
    exponent = math.floor(math.log10(largest) + 1e-9)
    if -4 < exponent < 5:
        return [_zero(f"{tick:.{_decimals(step)}f}") for tick in ticks]
    digits = exponent - math.floor(math.log10(step) + 1e-9) + _needs_half(step)
    return [_scientific(tick, exponent, max(0, digits)) if tick else "0" for tick in ticks]


def log_label(tick: float) -> str:
    """A tick of a logarithmic axis: 1e-9 · 0.01 · 20 · 1000 · 1e6"""
    exponent = math.floor(math.log10(tick) + 1e-9)
    if -3 < exponent < 4:
        return f"{tick:.{max(0, -exponent)}f}"
    return _scientific(tick, exponent, 0)


def _scientific(value: float, exponent: int, decimals: int) -> str:
    mantissa = value / 10.0**exponent if exponent > -300 else value * 1e300 / 10.0 ** (exponent + 300)
    text = f"{mantissa:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}e{exponent}"


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9) + _needs_half(step))


def _needs_half(step: float) -> int:
    """1 for a step of 2.5 · 10ⁿ, which takes a digit more."""
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    return int(abs(mantissa - 2.5) < 1e-6)


def _zero(text: str) -> str:
    """-0.00 is 0.00"""
    return text.lstrip("-") if not text.strip("-0.kMGTPEe") else text


def _durations(ticks: Sequence[float], step: float) -> list[str]:
    if step >= 86400:
        return [f"{tick / 86400:.{_decimals(step / 86400)}f}d" for tick in ticks]
    if step >= 3600:
        return [f"{tick / 3600:.{_decimals(step / 3600)}f}h" for tick in ticks]
    if step >= 60:
        return [f"{tick / 60:.{_decimals(step / 60)}f}m" for tick in ticks]
    return [f"{tick:.{_decimals(step)}f}s" for tick in ticks]


def seconds_text(seconds: float) -> str:
    """1.23 s · 45.6 ms · 789 µs"""
    for least, scale, unit in ((1.0, 1.0, "s"), (1e-3, 1e3, "ms")):
        if seconds >= least:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def bytes_text(size: float) -> str:
    """1.23 GB · 45.6 MB · 789 kB"""
    for least, unit in ((1e9, "GB"), (1e6, "MB")):
        if size >= least:
            return f"{size / least:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
