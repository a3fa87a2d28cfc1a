"""A run from several seeds: planned together, stopped and diverging anywhere, resumed, extended, pooled."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from deep_delta.data.tokens import Dataset
from deep_delta.errors import CheckpointError, ConfigError, NumericsError, StorageError
from deep_delta.evaluation.ranking import rank_runs
from deep_delta.runs.comparison import TrainingComparison
from deep_delta.runs.layout import RunFolder
from deep_delta.training import run as run_module
from deep_delta.training.reporting import Silent, StepReport
from deep_delta.training.run import train
from deep_delta.training.seeds import prepare_seeds, reopen_seeds, train_seeds
from deep_delta.training.signals import Interrupted
from tests.training.tiny import differences, tiny_config, tiny_training

CONFIGS = {slug: tiny_config(slug) for slug in ("baseline", "ddl")}


def silent(seed: int) -> Any:
    return nullcontext(Silent())


def statuses(out: Path) -> dict[int, list[str]]:
    runs = RunFolder(out).seeds()
    return {seed: [one.status for one in TrainingComparison.read(run.comparison).runs] for seed, run in runs.items()}


def prepared(data: Dataset, text_file: Path, out: Path, seeds: int = 3, **training: Any) -> list[run_module.Run]:
    return prepare_seeds(CONFIGS, tiny_training(**training), data, out, seeds, data_spec=str(text_file))


def test_each_seed_is_the_run_that_it_is_alone(data: Dataset, text_file: Path, tmp_path: Path):
    out = tmp_path / "several"
    comparisons = train_seeds(prepared(data, text_file, out, seeds=2, seed=5), silent)
    assert [one.training["seed"] for one in comparisons] == [5, 6]
    assert list(RunFolder(out).seeds()) == [5, 6]
    train(CONFIGS, tiny_training(seed=6), data, tmp_path / "alone")
    for slug in CONFIGS:
        alone = RunFolder(tmp_path / "alone").variant(slug)
        assert differences(RunFolder(out).of_seed(6).variant(slug), alone) == []
    ranking = rank_runs(comparisons)
    assert all(len(standing.values) == 2 and standing.margin > 0 for standing in ranking.standings)


def test_a_stop_names_the_folder_of_all_seeds_which_goes_on_from_there(data: Dataset, text_file: Path, tmp_path: Path):
    class PressesCtrlC(Silent):
        def __init__(self, seed: int) -> None:
            self.seed = seed

        def stepped(self, variant: str, report: StepReport) -> None:
            if (self.seed, variant, report.step) == (1, "baseline", 3):
                os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "stopped"
    with pytest.raises(Interrupted, match=rf"step 3 of baseline.*--resume {out}$"):
        train_seeds(prepared(data, text_file, out), lambda seed: nullcontext(PressesCtrlC(seed)))
    assert statuses(out) == {
        0: ["finished", "finished"],
        1: ["unfinished", "not started"],
        2: ["not started", "not started"],
    }
    train_seeds(reopen_seeds(out), silent)
    train_seeds(prepared(data, text_file, tmp_path / "never"), silent)
    for seed, run in RunFolder(out).seeds().items():
        for slug in CONFIGS:
            never = RunFolder(tmp_path / "never").of_seed(seed).variant(slug)
            assert differences(run.variant(slug), never) == []


def test_steps_and_seeds_are_added_to_all_runs_at_once(data: Dataset, text_file: Path, tmp_path: Path):
    out = tmp_path / "run"
    train_seeds(prepared(data, text_file, out, seeds=1), silent)
    runs = reopen_seeds(out, 3, changes={"max_steps": 6})
    assert [run.training.seed for run in runs] == [0, 1, 2]
    assert statuses(out)[0] == ["unfinished", "unfinished"], "the new plan is on disk before anything is trained"
    comparisons = train_seeds(runs, silent)
    assert {one.step for comparison in comparisons for one in comparison.runs} == {6}
    train_seeds(prepared(data, text_file, tmp_path / "fresh", max_steps=6), silent)
    for slug in CONFIGS:
        fresh = RunFolder(tmp_path / "fresh").of_seed(2).variant(slug)
        assert differences(RunFolder(out).of_seed(2).variant(slug), fresh) == []


def test_a_seed_that_diverges_keeps_no_other_from_being_trained(
    data: Dataset, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = run_module.train_variant

    def diverges_once(job: Any, *rest: Any, **options: Any) -> None:
        if (job.training.seed, job.variant) == (0, "ddl"):
            raise NumericsError("the loss is nan at step 2")
        real(job, *rest, **options)

    monkeypatch.setattr(run_module, "train_variant", diverges_once)
    out = tmp_path / "run"
    with pytest.raises(NumericsError, match="seed 0: ddl: the loss is nan at step 2"):
        train_seeds(prepared(data, text_file, out, seeds=2), silent)
    assert statuses(out) == {0: ["finished", "unfinished"], 1: ["finished", "finished"]}


def test_what_is_no_such_folder_or_not_one_experiment_is_refused(data: Dataset, text_file: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="holds no runs named seed-0"):
        reopen_seeds(tmp_path / "nothing")
    out = tmp_path / "run"
    train_seeds(prepared(data, text_file, out, seeds=1), silent)
    train(CONFIGS, tiny_training(seed=1, learning_rate=5e-4), data, out / "seed-1", data_spec=str(text_file))
    with pytest.raises(ConfigError, match="runs trained with different learning_rate"):
        reopen_seeds(out)


def test_another_writer_of_any_seed_is_met_before_anything_changes(data: Dataset, text_file: Path, tmp_path: Path):
    out = tmp_path / "run"
    train_seeds(prepared(data, text_file, out, seeds=2), silent)
    with RunFolder(out).of_seed(0).lock(), pytest.raises(ConfigError, match="another process"):
        reopen_seeds(out, changes={"max_steps": 8})
    assert set(statuses(out)[0]) == {"finished"}


def test_space_is_asked_for_all_seeds(data: Dataset, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def refuse(path: Path, needed: int) -> None:
        asked.append(needed)
        if len(asked) == 2:
            raise StorageError("full")

    monkeypatch.setattr(run_module, "require_space", refuse)
    train_seeds(prepared(data, text_file, tmp_path / "one", seeds=1), silent)
    with pytest.raises(StorageError, match="full"):
        prepared(data, text_file, tmp_path / "three")
    assert asked[1] == 3 * asked[0]
