"""A run folder: planned, trained, stopped anywhere, resumed, compared."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from deep_delta.data import tokens as tokens_module
from deep_delta.data.tokens import Dataset
from deep_delta.errors import CheckpointError, ConfigError, DataError, NumericsError, StorageError
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.comparison import Evaluation, TrainingComparison
from deep_delta.runs.layout import RunFolder
from deep_delta.runs.manifest import read_manifest
from deep_delta.training import loop, signals
from deep_delta.training import run as module
from deep_delta.training.checkpoint import load_checkpoint
from deep_delta.training.reporting import Silent, StepReport
from deep_delta.training.run import resume, train
from deep_delta.training.signals import Interrupted
from tests.training.tiny import differences, tiny_config, tiny_training

SLUGS = ("baseline", "ddl", "ddl-cc")
CONFIGS = {slug: tiny_config(slug) for slug in SLUGS}


class Watcher(Silent):
    """Notes what it is told; presses Ctrl-C at one step."""

    def __init__(self, press_at: tuple[str, int] | None = None) -> None:
        self.press_at = press_at
        self.heard: list[Any] = []

    def run_started(self, variants: Any, max_steps: int) -> None:
        self.heard.append(list(variants))

    def variant_started(self, variant: str, step: int, max_steps: int) -> None:
        self.heard.append((variant, step))

    def stepped(self, variant: str, report: StepReport) -> None:
        if (variant, report.step) == self.press_at:
            os.kill(os.getpid(), signal.SIGINT)

    def evaluated(self, variant: str, evaluation: Evaluation, *, best: bool) -> None:
        self.heard.append((variant, evaluation.step, best))

    def saved(self, variant: str, step: int, checkpoint: Path) -> None:
        self.heard.append((variant, checkpoint.name))

    def variant_finished(self, variant: str, step: int) -> None:
        self.heard.append((variant, "finished"))


@pytest.fixture(scope="module")
def finished(data: Dataset, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three variants, trained without a stop; tests copy it."""
    path = tmp_path_factory.mktemp("finished") / "run"
    train(CONFIGS, tiny_training(), data, path, data_spec=str(text_file))
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_the_comparison_says_what_came_out_and_what_produced_it(finished: Path, data: Dataset, text_file: Path):
    found = TrainingComparison.read(RunFolder(finished).comparison)
    assert found.training == tiny_training().model_dump()
    assert (found.data.sha256, found.data_spec) == (data.corpus.sha256, str(text_file))
    assert {"deep_delta", "python", "torch", "numpy"} <= found.origin.versions.keys()
    assert {"processor", "cores", "threads", "device"} <= found.origin.hardware.keys()
    assert [run.variant for run in found.runs] == list(SLUGS)
    for one in found.runs:
        assert (one.seed, one.status, one.step, one.problem) == (0, "finished", 4, None)
        assert one.model == CONFIGS[one.variant].model_dump()
        assert one.parameters == DdlTransformer(CONFIGS[one.variant]).num_parameters()
        assert [point.step for point in one.curve] == [1, 2, 3, 4]
        assert [evaluation.step for evaluation in one.evaluations] == [2, 4]
        assert [len(evaluation.spectra) for evaluation in one.evaluations] == [
            0 if one.variant == "baseline" else 2
        ] * 2
        assert one.best_loss == min(evaluation.loss for evaluation in one.evaluations)
        assert one.tokens_per_second > 0
    assert [standing.rank for standing in found.ranking.standings] == [1, 2, 3]
    assert found.ranking.rule.startswith("not resolved: one seed each")
    assert TrainingComparison.from_json(found.to_json(), error=CheckpointError, where="it") == found


def test_every_variant_trains_as_if_alone(run: Path, data: Dataset, tmp_path: Path):
    train({"ddl-cc": CONFIGS["ddl-cc"]}, tiny_training(), data, tmp_path / "alone")
    alone = RunFolder(tmp_path / "alone").variant("ddl-cc")
    assert differences(RunFolder(run).variant("ddl-cc"), alone) == []


def test_the_reporter_hears_the_whole_story_in_order(data: Dataset, tmp_path: Path):
    watcher = Watcher()
    train({"ddl": CONFIGS["ddl"]}, tiny_training(checkpoint_interval=2), data, tmp_path / "run", reporter=watcher)
    assert watcher.heard == [
        ["ddl"],
        ("ddl", 0),
        ("ddl", 2, True),
        ("ddl", "step-2"),
        ("ddl", 4, True),
        ("ddl", "step-4"),
        ("ddl", "finished"),
    ]


@pytest.mark.parametrize("press_at", [("baseline", 4), ("ddl", 1), ("ddl-cc", 3)], ids=str)
def test_ctrl_c_anywhere_and_resume_give_the_run_that_was_never_stopped(
    press_at: tuple[str, int], run: Path, data: Dataset, text_file: Path, tmp_path: Path
):
    halves = tmp_path / "halves"
    with pytest.raises(Interrupted) as caught:
        train(CONFIGS, tiny_training(), data, halves, data_spec=str(text_file), reporter=Watcher(press_at))
    assert caught.value.exit_code == 130
    stopped = TrainingComparison.read(RunFolder(halves).comparison)
    statuses = {one.variant: one.status for one in stopped.runs}
    after = SLUGS[SLUGS.index(press_at[0]) + 1 :]
    assert all(statuses[slug] == "not started" for slug in after)
    assert all(one.variant not in after for one in stopped.ranking.standings)
    resumed = resume(halves)
    for slug in SLUGS:
        assert differences(RunFolder(run).variant(slug), RunFolder(halves).variant(slug)) == []
    assert {one.status for one in resumed.runs} == {"finished"}


def test_finished_variants_are_left_alone(run: Path):
    shutil.rmtree(run / "ddl")
    before, watcher = snapshot(run), Watcher()
    resume(run, reporter=watcher)
    assert watcher.heard[:2] == [["ddl"], ("ddl", 0)]
    after = snapshot(run)
    untouched = [name for name in before if name.startswith(("baseline", "ddl-cc"))]
    assert untouched
    assert all(after[name] == before[name] for name in untouched)


def test_a_run_that_is_finished_may_be_resumed_to_no_effect(run: Path):
    before = snapshot(run)
    assert {one.status for one in resume(run).runs} == {"finished"}
    changed = {name for name, content in snapshot(run).items() if before.get(name) != content}
    assert changed <= {"training_comparison.json", ".lock"}


def test_more_steps_continue_every_variant(run: Path):
    found = resume(run, changes={"max_steps": 6})
    assert [(one.status, one.step, len(one.curve)) for one in found.runs] == [("finished", 6, 6)] * 3
    assert TrainingComparison.read(RunFolder(run).comparison).training["max_steps"] == 6


def test_a_run_from_before_recomputing_goes_on_and_may_begin_to_recompute(run: Path):
    comparison = run / "training_comparison.json"
    comparison.write_text(comparison.read_text().replace('"recompute": false,', ""))
    for path in run.glob("*/checkpoints/*/manifest.json"):
        manifest = read_manifest(path.parent)
        del manifest.training["recompute"]
        path.write_bytes(manifest.to_bytes())
    assert resume(run, changes={"max_steps": 5}).training["recompute"] is False
    assert resume(run, changes={"max_steps": 6, "recompute": True}).training["recompute"] is True


def test_a_checkpoint_continues_its_variant_only(run: Path, data: Dataset, text_file: Path, tmp_path: Path):
    training = tiny_training(checkpoint_interval=1, keep_checkpoints=9)
    path = tmp_path / "many"
    train({slug: CONFIGS[slug] for slug in ("ddl", "ddl-cc")}, training, data, path, data_spec=str(text_file))
    whole, before = RunFolder(shutil.copytree(path, tmp_path / "whole")), snapshot(path / "ddl-cc")
    watcher = Watcher()
    resume(path / "ddl" / "checkpoints" / "step-2", reporter=watcher)
    assert watcher.heard[:2] == [["ddl"], ("ddl", 2)]
    assert snapshot(path / "ddl-cc") == before
    assert differences(whole.variant("ddl"), RunFolder(path).variant("ddl")) == []


def test_a_checkpoint_with_all_its_steps_needs_more(run: Path):
    checkpoint = run / "ddl" / "checkpoints" / "LATEST"
    with pytest.raises(ConfigError, match=r"step-4 has 4 of 4 steps; give a larger --train.max-steps"):
        resume(checkpoint)
    assert resume(checkpoint, changes={"max_steps": 5}).runs[1].step == 5


def test_what_may_not_change_is_named(run: Path):
    with pytest.raises(ConfigError, match=r"keeps its learning_rate \(0.001\), got 0.1"):
        resume(run, changes={"learning_rate": 0.1})
    with pytest.raises(ConfigError, match="max_steps: input should be greater than or equal to 1, got 0"):
        resume(run, changes={"max_steps": 0})


def test_a_text_that_moved_is_found_and_another_text_is_refused(run: Path, text_file: Path, tmp_path: Path):
    moved = Path(shutil.copy(text_file, tmp_path / text_file.name))
    resume(run, data_spec=str(moved), changes={"max_steps": 5})
    moved.write_text(text_file.read_text().replace("times", "plus"))
    with pytest.raises(DataError, match=r"was trained on numbers.txt .* give the same data with --data"):
        resume(run, data_spec=str(moved), changes={"max_steps": 6})


@pytest.mark.parametrize("given", ["RUN", "CHECKPOINT"])
def test_a_run_of_a_version_with_other_sequences_is_not_continued(
    given: str, data: Dataset, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its manifests and its comparison say nothing of a layout."""
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(tokens_module, "_FORMAT", 1)
        with pytest.raises(Interrupted):
            train(CONFIGS, tiny_training(), data, path, data_spec=str(text_file), reporter=Watcher(("baseline", 2)))
    comparison = path / "training_comparison.json"
    assert '"layout": 1' in comparison.read_text()
    comparison.write_text(re.sub(r',\s*"layout": 1', "", comparison.read_text()))
    before = snapshot(path)
    with pytest.raises(
        DataError, match=r"the run was trained on .* in layout 1, .* makes layout 2; continue with the ver"
    ):
        resume(path if given == "RUN" else path / "baseline" / "checkpoints" / "LATEST")
    assert snapshot(path) == before
    model, _, manifest = load_checkpoint(path / "baseline")
    assert (manifest.data.layout, model.config.vocab_size) == (1, 257)


def test_an_existing_run_is_not_overwritten(run: Path, data: Dataset):
    before = snapshot(run)
    with pytest.raises(ConfigError, match="exists and is not empty; continue it with --resume"):
        train(CONFIGS, tiny_training(), data, run)
    assert snapshot(run) == before


def test_two_writers_are_one_too_many(run: Path):
    with RunFolder(run).lock(), pytest.raises(ConfigError, match="another process"):
        resume(run)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "training_comparison.json").write_text("{"), "training_comparison.json: "),
        (lambda run: (run / "training_comparison.json").unlink(), "no training_comparison.json to resume from"),
        (lambda run: shutil.rmtree(run), "there is no checkpoint"),
        (lambda run: (run / "ddl" / "checkpoints" / "LATEST").write_text("step-9\n"), "names step-9"),
    ],
    ids=["damaged", "missing", "no run", "latest"],
)
def test_a_run_that_cannot_be_resumed_says_why(damage: Any, message: str, run: Path):
    damage(run)
    with pytest.raises(CheckpointError, match=message):
        resume(run)


def test_another_format_version_is_refused(run: Path):
    path = run / "training_comparison.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(CheckpointError, match="format_version"):
        resume(run)


def test_a_checkpoint_with_a_flipped_bit_is_refused_and_an_older_one_still_works(
    data: Dataset, text_file: Path, tmp_path: Path
):
    path = tmp_path / "run"
    training = tiny_training(checkpoint_interval=1, keep_checkpoints=9)
    with pytest.raises(Interrupted):
        train(CONFIGS, training, data, path, data_spec=str(text_file), reporter=Watcher(("baseline", 3)))
    weights = path / "baseline" / "checkpoints" / "step-3" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"step-3/model.safetensors is damaged"):
        resume(path)
    assert resume(path / "baseline" / "checkpoints" / "step-2").runs[0].status == "finished"


def test_a_checkpoint_outside_a_run_is_refused(run: Path, tmp_path: Path):
    alone = shutil.copytree(run / "ddl" / "checkpoints" / "step-4", tmp_path / "a" / "b" / "step-4")
    with pytest.raises(CheckpointError, match=r"is not in a run with a training_comparison.json"):
        resume(alone)


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({}, "there is no variant to train"),
        ({"ddl": tiny_config("ddl", vocab_size=100)}, "ddl: vocab_size must be at least 257.*got 100"),
        ({"ddl": tiny_config("ddl", max_seq_len=8)}, "ddl: max_seq_len must be at least seq_len 16, got 8"),
    ],
    ids=["none", "vocabulary", "length"],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    configs: Any, message: str, data: Dataset, tmp_path: Path
):
    with pytest.raises(ConfigError, match=message):
        train(configs, tiny_training(), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_shorter_than_a_sequence_is_refused_before_anything_is_written(
    split: str, data: Dataset, tmp_path: Path
):
    short = dataclasses.replace(data, **{split: data.train[:10]})
    with pytest.raises(DataError, match=r"has 10 tokens and seq_len 16 needs 17"):
        train(CONFIGS, tiny_training(), short, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_disk_too_small_is_noticed_before_the_first_step(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    watcher = Watcher()
    with pytest.raises(StorageError, match="MB are free"):
        train(CONFIGS, tiny_training(), data, tmp_path / "run", reporter=watcher)
    assert watcher.heard == []


def test_the_space_asked_for_is_that_of_every_variant(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(module, "require_space", lambda path, num_bytes: asked.append(num_bytes))
    train(CONFIGS, tiny_training(), data, tmp_path / "run")
    written = sum(len(content) for name, content in snapshot(tmp_path / "run").items() if "checkpoints" in name)
    assert asked[0] >= written


def test_one_variant_that_fails_does_not_keep_the_others_from_training(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Fragile(DdlTransformer):
        def forward(self, *given: Any, **options: Any) -> torch.Tensor:
            factor = float("nan") if self.config.residual == "delta" and self.config.d_value == 1 else 1.0
            return super().forward(*given, **options) * factor

    monkeypatch.setattr(loop, "DdlTransformer", Fragile)
    with pytest.raises(NumericsError, match="ddl: the loss is nan at step 1, batch 0"):
        train(CONFIGS, tiny_training(), data, tmp_path / "run")
    found = TrainingComparison.read(RunFolder(tmp_path / "run").comparison)
    assert [(one.variant, one.status) for one in found.runs] == [
        ("baseline", "finished"),
        ("ddl", "unfinished"),
        ("ddl-cc", "finished"),
    ]
    assert found.runs[1].problem.startswith("the loss is nan")
    assert {standing.variant for standing in found.ranking.standings} == {"baseline", "ddl-cc"}


def test_without_a_validation_split_nothing_is_ranked(data: Dataset, tmp_path: Path):
    found = train(CONFIGS, tiny_training(), dataclasses.replace(data, validation=None), tmp_path / "run")
    assert found.ranking.standings == ()
    assert all(one.best_loss is None for one in found.runs)
    assert "NaN" not in (tmp_path / "run" / "training_comparison.json").read_text()


def test_what_was_trained_can_be_loaded(finished: Path, data: Dataset):
    model, tokenizer, manifest = load_checkpoint(finished / "ddl-cc")
    assert model.config == CONFIGS["ddl-cc"]
    assert tokenizer.sha256 == data.tokenizer.sha256
    assert (manifest.variant, manifest.step) == ("ddl-cc", 4)


@pytest.mark.usefixtures("others_defaults")
def test_the_default_dtype_and_device_of_a_program_change_nothing(
    finished: Path, data: Dataset, text_file: Path, tmp_path: Path
):
    config, path = {"ddl-cc": CONFIGS["ddl-cc"]}, tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config, tiny_training(), data, path, data_spec=str(text_file), reporter=Watcher(press_at=("ddl-cc", 2)))
    resume(path)
    assert differences(RunFolder(finished).variant("ddl-cc"), RunFolder(path).variant("ddl-cc")) == []
    model, _, _ = load_checkpoint(path / "ddl-cc")
    assert {(one.dtype, one.device.type) for one in model.parameters()} == {(torch.float32, "cpu")}


def test_when_the_time_is_up_a_run_saves_itself_and_each_resume_has_the_time_anew(
    finished: Path, data: Dataset, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class StepsOfASecond(Silent):
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def stepped(self, variant: str, report: StepReport) -> None:
            self.now += 1.0

    clock, path = StepsOfASecond(), tmp_path / "limited"
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(signals, "time", clock)
    with pytest.raises(Interrupted, match=r"time is up \(max_time\): stopped after step 3 of baseline") as caught:
        train(CONFIGS, tiny_training(max_time=2.5), data, path, data_spec=str(text_file), reporter=clock)
    assert caught.value.exit_code == 0
    log = RunFolder(path).variant("baseline").events.path.read_text().splitlines()
    assert json.loads(log[-1])["kind"] == "stopped"
    with pytest.raises(Interrupted, match="stopped after step 2 of ddl"):
        resume(path, reporter=clock)
    with pytest.raises(Interrupted, match=f"stopped before ddl-cc; continue with --resume {path}"):
        resume(path, reporter=clock, changes={"max_time": 2.0})
    resume(path, changes={"max_time": None}, reporter=clock)
    for slug in SLUGS:
        found = differences(RunFolder(path).variant(slug), RunFolder(finished).variant(slug))
        assert {Path(one).name for one in found} <= {"manifest.json"}, "which has the limit that was set"
