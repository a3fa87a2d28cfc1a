"""Training as it is seen: a bar on a terminal, a line per evaluation in a log. A `training.reporting.Reporter`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn

from deep_delta.cli.console import count, duration, notes

if TYPE_CHECKING:
    from deep_delta.runs.comparison import Evaluation
    from deep_delta.training.reporting import StepReport

_SMOOTHING = 0.1  # weight of the newest step in the shown loss and speed


class TrainingProgress:
    """Shows one bar for the variant in training, with tokens/s and the time left for it and for the whole run.

    Use it as a context manager around the training; `label` tells several runs apart (a seed, say).
    """

    def __init__(self, label: str = "") -> None:
        self._label = label
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[numbers]}"),
            console=notes,
            transient=True,
            expand=True,
            disable=not notes.is_terminal,
        )
        self._task = self._bar.add_task("", total=1, visible=False, numbers="")
        self._steps_after = 0  # of the variants that are still to come
        self._evaluation: Evaluation | None = None

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def run_started(self, variants: Sequence[str], max_steps: int) -> None:
        self._steps_after = len(variants) * max_steps

    def variant_started(self, variant: str, step: int, max_steps: int) -> None:
        self._steps_after -= max_steps
        self._max_steps = max_steps
        self._loss = self._seconds = self._rate = 0.0
        self._evaluation = None
        self._seen = 0
        self._bar.update(
            self._task, description=f"{self._label}{variant}", completed=step, total=max_steps, numbers="", visible=True
        )

    def stepped(self, variant: str, report: StepReport) -> None:
        weight = _SMOOTHING if self._seen else 1.0
        self._seen += 1
        self._loss += weight * (report.loss - self._loss)
        self._seconds += weight * (report.seconds - self._seconds)
        self._rate = report.tokens / self._seconds if self._seconds else 0.0
        left = self._seconds * (self._max_steps - report.step)
        parts = [f"loss {self._loss:.3f}", f"{count(self._rate)} tokens/s", f"{duration(left)} left"]
        if self._steps_after > 0:
            parts.append(f"{duration(left + self._seconds * self._steps_after)} in all")
        self._bar.update(self._task, completed=report.step, numbers=" · ".join(parts))

    def evaluated(self, variant: str, evaluation: Evaluation, *, best: bool) -> None:
        self._evaluation = evaluation
        if not notes.is_terminal:
            notes.print(self._line(variant, evaluation.step), soft_wrap=True)

    def saved(self, variant: str, step: int, checkpoint: Path) -> None:
        pass

    def variant_finished(self, variant: str, step: int) -> None:
        if notes.is_terminal:  # elsewhere the last evaluation has said it
            notes.print(self._line(variant, step), soft_wrap=True)

    def noted(self, line: str) -> None:
        notes.print(line, soft_wrap=True, markup=False)

    def _line(self, variant: str, step: int) -> str:
        parts = [f"{self._label}{variant}", f"step {step}/{self._max_steps}"]
        if self._seen:
            parts += [f"loss {self._loss:.3f}", f"{count(self._rate)} tokens/s"]
        if self._evaluation is not None and self._evaluation.loss is not None:
            right = [f"right {one.overall:.1%}" for one in self._evaluation.accuracies[:1]]
            parts[2:2] = [f"validation {self._evaluation.loss:.3f}", *right]
        return "  ".join(parts)
