"""A run from several seeds: a folder of runs that are planned together, trained one after the other and pooled.

RUN/seed-0, RUN/seed-1, …       each a run of its own, as `training.run` has it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deep_delta.data.batches import TrainingData
from deep_delta.errors import CheckpointError, NumericsError
from deep_delta.evaluation.ranking import rank_runs
from deep_delta.models.config import DdlConfig
from deep_delta.runs.comparison import TrainingComparison
from deep_delta.runs.layout import RunFolder
from deep_delta.training.config import TrainingConfig
from deep_delta.training.reporting import Reporter
from deep_delta.training.run import Run, prepare, reopen

Following = Callable[[int], AbstractContextManager[Reporter]]
"""Who follows the run from a seed."""


def prepare_seeds(
    configs: Mapping[str, DdlConfig],
    training: TrainingConfig,
    data: TrainingData,
    out: str | Path,
    num_seeds: int,
    *,
    data_spec: str | None = None,
    device: str | torch.device = "cpu",
    command: Sequence[str] | None = None,
) -> list[Run]:
    """Plan a run from each of `num_seeds` seeds, the first of them `training.seed`, into the new folder `out`.

    Nothing is trained yet, and every plan is on disk, so that `reopen_seeds` continues all of them whatever happens.
    Raises what `training.run.train` raises before its first step; the space that is asked for is that of all seeds.
    """
    folder = RunFolder(Path(out)).create()
    runs = []
    for index in range(num_seeds):
        seeded = training.model_copy(update={"seed": training.seed + index})
        place, rest = folder.of_seed(seeded.seed).path, num_seeds - 1 - index
        runs.append(
            prepare(configs, seeded, data, place, data_spec=data_spec, device=device, command=command, beside=rest)
        )
    return runs


def reopen_seeds(
    path: str | Path,
    num_seeds: int | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    data_spec: str | None = None,
    device: str | torch.device = "cpu",
    command: Sequence[str] | None = None,
) -> list[Run]:
    """The runs of a folder that `prepare_seeds` made, to be continued with `changes`; nothing is trained yet.

    num_seeds: as many in all; those that are missing are planned like the first. Raises what `training.run.resume`
    raises before its first step, `ConfigError` or `DataError` where the runs differ in more than their seed, and
    `CheckpointError` where there is none.
    """
    folder = RunFolder(Path(path))
    found = [run.path for run in folder.seeds().values()]
    if not found:
        raise CheckpointError(f"{path} holds no runs named seed-0, seed-1 and so on; check the path")
    first = reopen(found[0], changes=changes, data_spec=data_spec, device=device, command=command)
    others = [
        reopen(one, changes=changes, data_spec=data_spec, data=first.data, device=device, command=command)
        for one in found[1:]
    ]
    runs = {run.training.seed: run for run in (first, *others)}
    rank_runs([run.comparison() for run in runs.values()])
    missing = [seed for seed in range(first.training.seed, first.training.seed + (num_seeds or 0)) if seed not in runs]
    for seed in missing:
        seeded = first.training.model_copy(update={"seed": seed})
        place = folder.of_seed(seed).path
        runs[seed] = prepare(
            first.configs, seeded, first.data, place, data_spec=first.data_spec, device=device, command=command
        )
    for run in runs.values():
        with run.folder.lock():
            run.write_comparison()
    return [runs[seed] for seed in sorted(runs)]


def train_seeds(runs: Sequence[Run], following: Following) -> list[TrainingComparison]:
    """Train each run from where it stands. A seed that diverges does not keep the others from being trained;
    `NumericsError` is raised after the last. `Interrupted` ends all of them."""
    comparisons = []
    failed: NumericsError | None = None
    for run in runs:
        with following(run.training.seed) as reporter:
            try:
                comparisons.append(replace(run, reporter=reporter).train())
            except NumericsError as error:
                failed = failed or NumericsError(f"seed {run.training.seed}: {error}")
    if failed is not None:
        raise failed
    return comparisons
