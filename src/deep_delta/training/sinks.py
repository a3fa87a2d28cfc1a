"""What each tracker wants of an event: numbers by name, at a step."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deep_delta.training.config import TrackerName

_STEP = ("loss", "learning_rate", "grad_norm")
_GATES = ("beta_mean", "beta_std", "k_eigenvalue", "discrepancy_before", "discrepancy_after", "alignment")


@dataclass(frozen=True)
class TrackedRun:
    """One variant with one seed, as a tracker sees it."""

    tracker: TrackerName
    id: str
    """the same when a run is resumed, so that its curves go on"""
    project: str
    name: str
    folder: Path
    """where a tracker that writes files puts them"""
    config: Mapping[str, Any]
    step: int
    """where it begins: 0, or where it was resumed"""


class Sink(Protocol):
    """One run in one tracker."""

    def write(self, event: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def scalars(event: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of an event by name: train/loss, validation/loss, gates/0.mixer/beta_mean, …; what is None is left
    out."""
    if event["kind"] == "step":
        yield from ((f"train/{name}", event[name]) for name in _STEP)
        yield "train/tokens_per_second", event["tokens"] / event["seconds"]
    elif event["kind"] == "evaluation":
        for name in ("loss", "bits_per_byte"):
            if event[name] is not None:
                yield f"validation/{name}", event[name]
        for accuracy in event["accuracies"]:
            yield from (
                (f"accuracy/{accuracy['lengths']}/{share}", accuracy[share]) for share in ("overall", "last", "exact")
            )
        for spectrum in event["spectra"]:
            place = f"gates/{spectrum['layer']}.{spectrum['sublayer']}"
            yield from ((f"{place}/{name}", spectrum[name]) for name in _GATES if spectrum[name] is not None)


class TensorBoard:
    """Event files in the variant's folder; what a resumed run repeats is purged."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step + 1 if run.step else None)
        self._writer.add_text("config", "\n".join(f"    {name} = {value!r}" for name, value in run.config.items()))

    def write(self, event: Mapping[str, Any]) -> None:
        for name, value in scalars(event):
            self._writer.add_scalar(name, value, event["step"])

    def close(self) -> None:
        self._writer.close()


class Logged:
    """wandb, and trackio, which has the same calls: `init`, `log`, `finish`."""

    def __init__(self, run: TrackedRun) -> None:
        self._module = importlib.import_module(run.tracker)
        own: dict[str, Any] = {}
        if run.tracker == "wandb":
            own = {"id": run.id, "dir": str(run.folder)}
            if not self._module.api.api_key:  # it would ask for one, and nobody may be there
                own["mode"] = "offline"
        self._module.init(project=run.project, name=run.name, config=dict(run.config), resume="allow", **own)

    def write(self, event: Mapping[str, Any]) -> None:
        found = dict(scalars(event))
        if found:
            self._module.log(found, step=event["step"])

    def close(self) -> None:
        self._module.finish()


SINKS: Mapping[TrackerName, Callable[[TrackedRun], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": Logged,
    "trackio": Logged,
}
