"""Models and runs small enough for tests, and what makes two runs the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deep_delta.models.config import DdlConfig
from deep_delta.models.variants import variant_config
from deep_delta.runs.layout import VariantFolder
from deep_delta.training.config import TrainingConfig
from deep_delta.training.reporting import Silent, StepReport
from deep_delta.training.signals import StopRequest

REPRODUCIBLE = ("started", "step", "evaluation", "finished")
"""Events that a stopped and resumed run must have just as one that never stopped; others tell of the stop itself."""


def tiny_config(variant: str = "ddl-cc", **fields: Any) -> DdlConfig:
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 257, "max_seq_len": 16}
    return variant_config(variant, **{**sizes, **fields})


def tiny_training(**fields: Any) -> TrainingConfig:
    usual = {"max_steps": 4, "batch_size": 2, "seq_len": 16, "eval_interval": 2, "eval_batches": 2}
    return TrainingConfig(**{**usual, **fields})


class StopAfter(Silent):
    """Asks for a stop, as Ctrl-C does, once a step of a variant is done."""

    def __init__(self, stop: StopRequest, step: int, signum: int) -> None:
        self.stop, self.step, self.signum = stop, step, signum

    def stepped(self, variant: str, report: StepReport) -> None:
        if report.step == self.step:
            self.stop.request(self.signum)


def differences(one: VariantFolder, other: VariantFolder) -> list[str]:
    """Which files of the latest checkpoints, and which kinds of events, are not the same to the last bit."""
    mine, yours = _content(one), _content(other)
    return sorted(name for name in mine.keys() | yours.keys() if mine.get(name) != yours.get(name))


def _content(folder: VariantFolder) -> dict[str, Any]:
    latest = folder.latest()
    assert latest is not None
    files: dict[str, Any] = {str(file.relative_to(latest)): file.read_bytes() for file in _files(latest)}
    for kind in REPRODUCIBLE:
        files[f"events: {kind}"] = [
            {name: value for name, value in event.items() if name not in ("seconds", "time")}
            for event in folder.events.read()
            if event["kind"] == kind
        ]
    return files


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
