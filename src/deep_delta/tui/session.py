"""What is looked at, and how: everything that keys change. Knows no screen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from deep_delta.explore import Axis, Exploration, Measure, Status, Trace, Variant
from deep_delta.runs.benchmark import Benchmark
from deep_delta.tui.filters import matcher

ViewName = Literal["curves", "spectra", "comparison", "benchmarks"]
VIEWS: tuple[ViewName, ...] = get_args(ViewName)

SMOOTHINGS = (0.0, 0.6, 0.9, 0.97)
TAILS = (1.0, 0.5, 0.2, 0.05)
_GRAVITY = ("failed", "silent", "stopped", "running", "waiting", "finished")
_MESSAGE_SECONDS = 5.0


@dataclass
class Session:
    """One look at an exploration."""

    exploration: Exploration
    baseline: Benchmark | None = None
    baseline_name: str = ""
    view: ViewName = "curves"
    pattern: str = ""
    typed: str | None = None
    """the filter that is being typed, which counts at once; None while none is"""
    axis: Axis = "step"
    log: bool = False
    smoothing: float = 0.0
    tail: float = 1.0
    difference: bool = False
    cursor: float | None = None
    """a place on the x axis that all panels mark"""
    cursor_axis: Axis = "step"
    """what the cursor counts"""
    main: dict[str, str] = field(default_factory=dict)
    """of each view, which panel is the large one; the first where there is none of that name"""
    seed: int = 0
    """which trace of the chosen variant the spectra are of, counted on"""
    cost: int = 0
    """which cost the comparison draws losses against, counted on"""
    scroll: dict[str, int] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    chosen: str = ""
    _message: str = ""
    _until: float = 0.0

    @property
    def filter(self) -> str:
        """The one that counts."""
        return self.pattern if self.typed is None else self.typed

    @property
    def x_axis(self) -> Axis:
        """Of the view: spectra are over steps."""
        return "step" if self.view == "spectra" else self.axis

    @property
    def cursor_here(self) -> float | None:
        """The cursor, where it counts what the view's x axis does."""
        return self.cursor if self.cursor_axis == self.x_axis else None

    def put_cursor(self, place: float) -> bool:
        """Whether that moved it; steps and tokens are whole."""
        place = float(round(place)) if self.x_axis in ("step", "tokens") else place
        moved = (place, self.x_axis) != (self.cursor, self.cursor_axis)
        self.cursor, self.cursor_axis = place, self.x_axis
        return moved

    def listed(self) -> list[Variant]:
        """The variants that the filter leaves."""
        wanted, _ = matcher(self.filter)
        return [variant for variant in self.exploration.variants if wanted(variant.label)]

    def shown(self) -> list[Variant]:
        """Those that are not hidden, the chosen one last, so that it lies on top."""
        visible = [variant for variant in self.listed() if variant.label not in self.hidden]
        chosen = self.chosen_variant()
        return sorted(visible, key=lambda variant: chosen is not None and variant.label == chosen.label)

    def chosen_variant(self) -> Variant | None:
        """The one that keys act on. Until one is chosen, the one that trains, else the first that has begun; of the
        spectra one that has any."""
        listed = self.listed()
        found = [variant for variant in listed if variant.label == self.chosen]
        if not found:
            begun = [variant for variant in listed if any(trace.step for trace in variant.traces)]
            found = [one for one in begun if any(trace.status.kind == "running" for trace in one.traces)] or begun
        if self.view == "spectra" and not self.chosen and not _has_spectra(found):
            found = [variant for variant in listed if _has_spectra([variant])]
        return next(iter(found or listed), None)

    def chosen_trace(self) -> Trace | None:
        """The seed of the chosen variant that the spectra are of."""
        variant = self.chosen_variant()
        return None if variant is None or not variant.traces else variant.traces[self.seed % len(variant.traces)]

    def choose(self, step: int) -> None:
        """Go down the list by `step`, round its ends."""
        listed, chosen = self.listed(), self.chosen_variant()
        if chosen is not None:
            at = next(index for index, variant in enumerate(listed) if variant.label == chosen.label)
            self.chosen = listed[(at + step) % len(listed)].label

    def toggle(self) -> None:
        """Show or hide the chosen one."""
        chosen = self.chosen_variant()
        if chosen is not None:
            self.hidden ^= {chosen.label}

    def axes(self) -> list[Axis]:
        """What x can be; FLOPs where every run counts them."""
        traces = [trace for variant in self.listed() for trace in variant.traces]
        axes: list[Axis] = ["step", "tokens", "flops", "seconds"]
        return [axis for axis in axes if all(axis in trace.axes() for trace in traces)]

    def next_axis(self) -> None:
        axes = self.axes()
        self.axis = axes[(axes.index(self.axis) + 1) % len(axes)] if self.axis in axes else "step"

    def next_smoothing(self) -> None:
        self.smoothing = following(SMOOTHINGS, self.smoothing)

    def next_tail(self) -> None:
        self.tail = following(TAILS, self.tail)

    def measures(self) -> list[Measure]:
        """Of which there is a curve, those of training first."""
        found = {measure for variant in self.listed() for trace in variant.traces for measure in trace.measures()}
        order: tuple[Measure, ...] = (
            "loss", "validation", "learning_rate", "grad_norm", "tokens_per_second", "bits_per_byte", "accuracy",
        )  # fmt: skip
        return [measure for measure in order if measure in found]

    def say(self, message: str) -> None:
        """Show a line for some seconds."""
        self._message, self._until = message, time.monotonic() + _MESSAGE_SECONDS

    @property
    def message(self) -> str:
        return self._message if time.monotonic() < self._until else ""


def following(values: Sequence[float], value: float) -> float:
    """The one after `value`, round the end."""
    return values[(values.index(value) + 1) % len(values)] if value in values else values[0]


def _has_spectra(variants: Sequence[Variant]) -> bool:
    return any(trace.has_spectra for variant in variants[:1] for trace in variant.traces)


def status_of(traces: Sequence[Trace]) -> Status:
    """The one of several seeds that asks most for attention, with its seed where there are several."""
    found = [(trace.status, trace.seed) for trace in traces]
    if not found:
        return Status("waiting", "not started")
    status, seed = min(found, key=lambda one: _GRAVITY.index(one[0].kind))
    if len(traces) == 1 or len({one.text for one, _ in found}) == 1:
        return status
    return Status(status.kind, f"seed {seed}: {status.text}")


def summary(exploration: Exploration) -> Status:
    """All runs together, in few words."""
    if exploration.behind > 0.01:
        return Status("running", f"reading, {1 - exploration.behind:.0%}")
    statuses = [trace.status for trace in exploration.traces]
    if not statuses:
        return Status("finished", "")
    kinds = [status.kind for status in statuses]
    worst = min(kinds, key=_GRAVITY.index)
    if len({status.text for status in statuses}) == 1:
        return statuses[0]
    alone = [trace for trace in exploration.traces if trace.status.kind == worst]
    if len(alone) == 1 and worst in ("failed", "silent", "running"):
        return Status(worst, f"{alone[0].slug} {alone[0].status.text}")
    words = {"silent": "stopped writing", "waiting": "not started"}
    counts = [f"{kinds.count(kind)} {words.get(kind, kind)}" for kind in _GRAVITY if kind in kinds]
    return Status(worst, ", ".join(counts))
