"""An axis: where a value lies between its ends, and where its ticks are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deep_delta.tui.drawing.numbers import Kind, log_label, tick_labels

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_ROOM = 0.02  # of the range, beyond the least and the greatest value


class Ticks(NamedTuple):
    values: list[float]
    labels: list[str]
    offset: str
    """what has to be added to each label; "" for nothing"""


class Scale(NamedTuple):
    """low < high, both finite; both above 0 where `log`."""

    low: float
    high: float
    log: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """0 at `low`, 1 at `high`; −∞ for what a logarithmic axis cannot show, NaN for NaN."""
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.where(values > 0, np.log10(values), np.where(np.isnan(values), np.nan, -np.inf))
            first, last = math.log10(self.low), math.log10(self.high)
            return (logs - first) / (last - first)
        return (values / 2 - self.low / 2) / (self.high / 2 - self.low / 2)  # halves: the range may be beyond float64

    def at(self, place: float) -> float:
        """The value at `place` of the way."""
        if self.log:
            return self.low * (self.high / self.low) ** place
        return self.low * (1 - place) + self.high * place

    def ticks(self, most: int, kind: Kind = "plain") -> Ticks:
        """At most `most` ticks (and at least one) at round values."""
        most = max(1, most)
        if self.log:
            values = _log_ticks(self.low, self.high, most)
            if values:
                return Ticks(values, [log_label(value) for value in values], "")
        values, step = _linear_ticks(self.low, self.high, most, kind)
        labels, offset = tick_labels(values, step, kind)
        return Ticks(values, labels, offset)


def scale_of(least: float, greatest: float, *, log: bool = False, room: float = _ROOM) -> Scale:
    """An axis that shows both, with a little room; around one value where they are equal."""
    if log:
        ratio = max(greatest / least, 1.0) if greatest / least < math.inf else 1e300
        if ratio < 1.01:
            return Scale(max(least / 2, 5e-324), min(greatest * 2, 1.7e308), True)
        return Scale(max(least / ratio**room, 5e-324), min(greatest * ratio**room, 1.7e308), True)
    spread = greatest / 2 - least / 2
    if spread <= abs(greatest) * 1e-14:
        pad = abs(greatest) * 0.1 or 1.0
        return Scale(least - pad, greatest + pad)
    return Scale(max(-1.7e308, least - 2 * spread * room), min(1.7e308, greatest + 2 * spread * room))


def _linear_ticks(low: float, high: float, most: int, kind: Kind) -> tuple[list[float], float]:
    rough = (high / 2 - low / 2) / most * 2
    if kind == "seconds" and 1 <= rough <= _TIME_STEPS[-1]:
        candidates: Sequence[float] = [step for step in _TIME_STEPS if step >= rough]
    else:
        power = 10.0 ** max(-300, math.floor(math.log10(rough)))
        candidates = [step * power for step in (*_STEPS, 20.0, 50.0, 100.0)]
    for step in candidates:
        if kind == "count" and step < 1:
            continue  # there is no half of a step
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if 1 <= last - first + 1 <= most:
            return [index * step for index in range(first, last + 1)], step
    middle = low / 2 + high / 2  # no round value inside: the middle, to two digits more than the range
    digits = 10.0 ** math.floor(math.log10(rough) - 1)
    return [round(middle / digits) * digits], digits


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    decades = [10.0**power for power in range(first, last + 1) if power >= -307]
    if len(decades) > most:
        return decades[:: -(-len(decades) // most)]
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**power for power in range(max(-307, first - 1), last + 1) for factor in factors]
        values = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(values) <= most and (len(values) > 1 or len(decades) > 0):
            return values
    return decades if len(decades) > 1 else []
