"""One variant trained with one seed, as its event log tells it, read while it grows."""

# S evaluations, L sublayers, F fields of a spectrum

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from deep_delta.explore.journal import Journal
from deep_delta.explore.line import AXES, EMPTY, Axis, Buckets, Curves, Line
from deep_delta.spectral.regimes import REGIMES

Measure = Literal["loss", "validation", "bits_per_byte", "accuracy", "learning_rate", "grad_norm", "tokens_per_second"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""Of training steps: loss, learning_rate, grad_norm and tokens_per_second; of evaluations: validation (loss, nats per
token or answer), bits_per_byte and accuracy (share of all answers of a task)."""

TITLES: Mapping[Measure, str] = {
    "loss": "training loss (nats)",
    "validation": "validation loss (nats)",
    "bits_per_byte": "validation, bits per byte",
    "accuracy": "right answers (share)",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens/s",
}

SPECTRUM = (
    "beta_mean", "beta_std", "beta_q05", "beta_q25", "beta_median", "beta_q75", "beta_q95", "k_eigenvalue",
    "determinant", "lifted_determinant", "alignment", "discrepancy_before", "discrepancy_after", "direction_norm",
    "k_norm", "state_norm",
)  # fmt: skip
"""Fields of a spectrum, each a number a sublayer."""

_OF_STEPS: tuple[Measure, ...] = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
_OF_EVALUATIONS: tuple[Measure, ...] = ("validation", "bits_per_byte", "accuracy")
_SNAPSHOTS = 256
_MOST = 1e15  # more steps, tokens or seconds than this are damage
_SILENT = 120.0  # seconds without a line, at least, before a run counts as silent
_ENDS = ("finished", "failed", "stopped")

StatusKind = Literal["waiting", "running", "finished", "stopped", "failed", "silent"]


class Status(NamedTuple):
    """How a trace stands, and the words for it."""

    kind: StatusKind
    text: str


class Spectra(NamedTuple):
    """What the gates did at S evaluations (or at means of consecutive ones, in a long run) in each of L sublayers."""

    steps: np.ndarray
    """[S]"""
    labels: tuple[str, ...]
    """of the sublayers: "0 mixer", "0 mlp", …"""
    values: dict[str, np.ndarray]
    """[S, L] for each of `SPECTRUM`; NaN where there is none"""
    shares: np.ndarray
    """[S, L, 5]: how many of the gates lie in each of `REGIMES`"""


class Trace:
    """One variant with one seed. `poll` reads on; everything else is what has been read."""

    def __init__(self, path: Path, *, run: str, planned: Mapping[str, Any] | None = None) -> None:
        """path: the variant's folder. planned: what the run's comparison says of it, the fields of `TrainedVariant`."""
        self.path, self.slug, self.run = path, path.name, run
        planned = planned or {}
        self.seed: int | None = planned.get("seed")
        self.model: dict[str, Any] = dict(planned.get("model") or {})
        self.training: dict[str, Any] = {}
        self._planned = planned
        self.journal = Journal(path / "events.jsonl")
        self._forget()

    def _forget(self) -> None:
        self._steps, self._evaluations = Curves(3, len(_OF_STEPS)), Curves(3, len(_OF_EVALUATIONS))
        self._at: tuple[float, float, float] = (0.0, 0.0, 0.0)
        """step, tokens and seconds of training so far"""
        self._snapshots: Buckets | None = None
        self._layers: tuple[str, ...] = ()
        self._last_evaluated = -1
        self._has: set[Measure] = set()
        self._end: tuple[str, str] | None = None
        self._step_seconds = 0.0
        self.num_ignored = 0
        self.step = 0
        self.max_steps: int | None = None
        self.started: str | None = None
        self.ended: str | None = None
        self.commands: list[list[str]] = []
        self.commit: str | None = None
        self.parameters: int | None = _whole(self._planned.get("parameters"))
        self.flops_per_token: int | None = _whole(self._planned.get("flops_per_token"))
        self.best_loss: float | None = None
        self.best_step: int | None = None

    @property
    def seconds(self) -> float:
        """Of all training steps together, without evaluations and checkpoints."""
        return self._at[2]

    @property
    def tokens(self) -> float:
        """Training targets so far."""
        return self._at[1]

    @property
    def tokens_per_second(self) -> float | None:
        return self._at[1] / self._at[2] if self._at[2] > 0 else None

    def poll(self) -> bool:
        """Read the next part of the log, some 256 kB at most; whether anything is new."""
        offset, torn = self.journal.offset, self.journal.torn
        anew, events = self.journal.poll()
        if anew:
            self._forget()
        steps: list[dict[str, Any]] = []
        for event in events:
            if event["kind"] == "step":
                steps.append(event)
            elif event["kind"] == "evaluation":
                self._add_steps(steps)
                steps = []
                self._add_evaluation(event)
            else:
                self._add_steps(steps)
                steps = []
                self._note(event)
        self._add_steps(steps)
        return anew or offset != self.journal.offset or torn != self.journal.torn

    def _add_steps(self, events: list[dict[str, Any]]) -> None:
        if not events:
            return
        rows = np.array(
            [[number_of(event.get(name)) for name in ("step", "tokens", "seconds", *_OF_STEPS[:3])] for event in events]
        )
        rows = rows[self._in_order(rows[:, 0])]
        if not len(rows):
            return
        step = rows[:, 0]
        tokens, seconds = (np.where((row >= 0) & (row < _MOST), row, 0) for row in (rows[:, 1], rows[:, 2]))
        axes = np.stack((step, self._at[1] + tokens.cumsum(), self._at[2] + seconds.cumsum()), axis=1)
        rate = np.divide(tokens, seconds, out=np.full(len(rows), np.nan), where=seconds > 1e-9)
        gap = np.diff(step, prepend=self._at[0]) > 1
        gap[0] &= self._steps.num_points > 0
        self._steps.extend(axes, np.concatenate((rows[:, 3:], rate[:, None]), axis=1), gap)
        self._at = (float(axes[-1, 0]), float(axes[-1, 1]), float(axes[-1, 2]))
        self._step_seconds = float(np.median(seconds))
        self.step, self._end = int(self._at[0]), None
        self._has.update(_OF_STEPS)

    def _in_order(self, steps: np.ndarray) -> np.ndarray:
        """Which steps go on from those before; others are counted as ignored. A damaged number that is far too large is
        told by the next one, which goes on without it."""
        if (np.diff(steps, prepend=self._at[0]) > 0).all() and steps[-1] < _MOST:
            return np.ones(len(steps), bool)
        kept = np.zeros(len(steps), bool)
        last = self._at[0]
        for index, step in enumerate(steps.tolist()):
            following = steps[index + 1] if index + 1 < len(steps) else math.inf
            if last < step < _MOST and not last < following <= step:
                kept[index], last = True, step
        self.num_ignored += int((~kept).sum())
        return kept

    def _add_evaluation(self, event: dict[str, Any]) -> None:
        step = _whole(event.get("step"))
        if step is None or step <= self._last_evaluated:
            self.num_ignored += 1
            return
        self._last_evaluated = step
        accuracies = event.get("accuracies")
        first = accuracies[0] if isinstance(accuracies, list) and accuracies else None
        loss, bits = number_of(event.get("loss")), number_of(event.get("bits_per_byte"))
        right = number_of(first.get("overall")) if isinstance(first, dict) else math.nan
        place = np.array([[float(step), self._at[1], self._at[2]]])
        self._evaluations.extend(place, np.array([[loss, bits, right]]), np.zeros(1, bool))
        self._has.update(
            name for name, value in zip(_OF_EVALUATIONS, (loss, bits, right), strict=True) if math.isfinite(value)
        )
        self._has.add("validation")
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            self.best_loss, self.best_step = loss, step
        spectra = event.get("spectra")
        if isinstance(spectra, list) and spectra and all(isinstance(one, dict) for one in spectra):
            self._add_spectra(step, spectra)

    def _add_spectra(self, step: int, spectra: list[dict[str, Any]]) -> None:
        layers = tuple(f"{one.get('layer')} {one.get('sublayer')}" for one in spectra)
        if self._snapshots is None:
            self._layers = layers
            self._snapshots = Buckets(1, len(layers) * (len(SPECTRUM) + len(REGIMES)), _SNAPSHOTS)
        if layers != self._layers:
            self.num_ignored += 1
            return
        shares = [one["regime_share"] if isinstance(one.get("regime_share"), dict) else {} for one in spectra]
        rows = [
            [number_of(one.get(name)) for name in SPECTRUM] + [number_of(share.get(name)) for name in REGIMES]
            for one, share in zip(spectra, shares, strict=True)
        ]
        if not self._snapshots.room:
            self._snapshots.merge_pairs()
        self._snapshots.append(np.array([[float(step)]]), np.array(rows).reshape(1, -1), np.zeros(1, bool))

    def _note(self, event: dict[str, Any]) -> None:
        kind, at = event["kind"], event.get("time")
        if kind in ("started", "resumed"):
            self._end = self.ended = None
            if isinstance(at, str) and self.started is None:
                self.started = at
            command = event.get("command")
            if isinstance(command, list) and all(isinstance(word, str) for word in command):
                self.commands.append(command)
            self.commit = event.get("commit") if isinstance(event.get("commit"), str) else self.commit
            self.max_steps = _whole(event.get("max_steps")) or self.max_steps
            self.parameters = _whole(event.get("parameters")) or self.parameters
            self.flops_per_token = _whole(event.get("flops_per_token")) or self.flops_per_token
            if self.seed is None:
                self.seed = _whole(event.get("seed"))
        elif kind in _ENDS:
            reason = event.get("problem") if kind == "failed" else event.get("signal")
            self._end = (kind, str(reason) if reason else "")
            self.ended = at if isinstance(at, str) else None

    def measures(self) -> list[Measure]:
        """What there is a line of."""
        return [name for name in MEASURES if name in self._has]

    def axes(self) -> list[Axis]:
        """What can be counted along x: FLOPs only where a token's are known."""
        return [axis for axis in AXES if axis != "flops" or self.flops_per_token is not None]

    def line(self, measure: Measure, axis: Axis = "step", since: float | None = None) -> Line:
        """A curve; empty where there is none. With `since`, from that x on and there at full resolution where it is
        kept. Evaluations stand at the step, tokens and seconds of training after which they were made."""
        per_token = float(self.flops_per_token or 0)
        if axis == "flops" and not per_token:
            return EMPTY
        index = {"step": 0, "tokens": 1, "flops": 1, "seconds": 2}[axis]
        scale = per_token if axis == "flops" else 1.0
        curves, names = (self._steps, _OF_STEPS) if measure in _OF_STEPS else (self._evaluations, _OF_EVALUATIONS)
        line = curves.line(index, names.index(measure), None if since is None else since / scale)
        return line._replace(x=line.x * scale, start=line.start * scale)

    @property
    def has_spectra(self) -> bool:
        """Whether its gates were measured."""
        return self._snapshots is not None

    def spectra(self) -> Spectra | None:
        """What the gates did; None for a model without gates, and before the first evaluation."""
        kept = self._snapshots
        if kept is None:
            return None
        size, fields = kept.size, len(SPECTRUM) + len(REGIMES)
        means = np.stack([kept.line(0, column).mean for column in range(len(self._layers) * fields)], axis=1)
        cube = means.reshape(size, len(self._layers), fields)
        values = {name: cube[:, :, index] for index, name in enumerate(SPECTRUM)}
        return Spectra(kept.x[:size, 0].copy(), self._layers, values, cube[:, :, len(SPECTRUM) :])

    @property
    def status(self) -> Status:
        """Whether it is training, has ended, or has stopped writing; told by the log, its age and the run's writer."""
        target = self.max_steps or _whole(self.training.get("max_steps"))
        at = f"step {self.step:,}" + (f" of {target:,}" if target else "")
        if self.journal.modified is None:
            return Status("waiting", "not started")
        if self._end is not None:
            kind, reason = self._end
            text = {"finished": "finished", "failed": f"failed after {at}", "stopped": f"stopped after {at}"}[kind]
            status: StatusKind = "finished" if kind == "finished" else "failed" if kind == "failed" else "stopped"
            return Status(status, f"{text}: {reason}" if reason else text)
        if self.journal.behind:
            return Status("running", f"reading, {at} so far")
        age = time.time() - self.journal.modified
        if age > max(_SILENT, 20 * self._step_seconds) or (age > 10 and not _writer_lives(self.path.parent)):
            return Status("silent", f"stopped writing {_ago(age)} ago, at {at}")
        return Status("running", f"running, {at}")

    def notices(self) -> list[str]:
        """What is wrong with the log, a line each."""
        found = self.journal.notices()
        if self.num_ignored:
            found.append(f"{self.journal.path}: {self.num_ignored:,} events are of earlier steps and passed over")
        if self.journal.modified is not None and not self.journal.behind and not self._steps.num_points:
            found.append(f"{self.journal.path}: no training step yet")
        return found


def _writer_lives(run: Path) -> bool:
    """Whether the process that holds the run's lock is there; true where that cannot be told."""
    try:
        pid = max(1, int((run / ".lock").read_bytes()[:20]))
    except (OSError, ValueError):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def number_of(value: Any) -> float:
    """A float; NaN for whatever is no number, as a damaged log may hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}" + ("s" if number > 1 else "")
    return f"{int(seconds)} seconds"
