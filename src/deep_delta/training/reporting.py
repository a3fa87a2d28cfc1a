"""What the loop tells whoever watches it. The progress bar of the command line is one such watcher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deep_delta.runs.comparison import Evaluation


@dataclass(frozen=True)
class StepReport:
    """One finished optimiser step."""

    step: int
    """steps done, this one included"""
    loss: float
    """mean training loss of its batches, nats per token"""
    learning_rate: float
    grad_norm: float
    """before clipping"""
    tokens: int
    """training targets of this step"""
    seconds: float


class Reporter(Protocol):
    """Called by `training.run` and `training.loop`, in the order of the methods."""

    def run_started(self, variants: Sequence[str], max_steps: int) -> None:
        """The variants that are now trained; finished ones of a resumed run are not among them."""

    def variant_started(self, variant: str, step: int, max_steps: int) -> None:
        """Training begins after `step` steps (0 unless it continues from a checkpoint)."""

    def stepped(self, variant: str, report: StepReport) -> None: ...

    def evaluated(self, variant: str, evaluation: Evaluation, *, best: bool) -> None: ...

    def saved(self, variant: str, step: int, checkpoint: Path) -> None: ...

    def variant_finished(self, variant: str, step: int) -> None: ...

    def noted(self, line: str) -> None:
        """Something beside the training that whoever watches should know, at any time."""


class Silent:
    """The reporter of library use: says nothing."""

    def run_started(self, variants: Sequence[str], max_steps: int) -> None:
        pass

    def variant_started(self, variant: str, step: int, max_steps: int) -> None:
        pass

    def stepped(self, variant: str, report: StepReport) -> None:
        pass

    def evaluated(self, variant: str, evaluation: Evaluation, *, best: bool) -> None:
        pass

    def saved(self, variant: str, step: int, checkpoint: Path) -> None:
        pass

    def variant_finished(self, variant: str, step: int) -> None:
        pass

    def noted(self, line: str) -> None:
        pass
