"""Trackers see the events that are written, and can neither stop, slow nor change a training."""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import pytest

from deep_delta.errors import ConfigError
from deep_delta.runs.layout import RunFolder
from deep_delta.training.reporting import Silent
from deep_delta.training.run import resume, train
from deep_delta.training.sinks import TrackedRun, scalars
from deep_delta.training.tracking import Tracker, require_tracker
from tests.training.tiny import tiny_config, tiny_training


class Board(ModuleType):
    """What wandb and trackio have in common, recorded."""

    def __init__(self, name, *, fails_at=None, hangs_at=None):
        super().__init__(name)
        self.__spec__ = SimpleNamespace(name=name)
        self.fails_at, self.hangs_at = fails_at, hangs_at
        self.started, self.logged, self.finished = [], [], 0
        self.api = SimpleNamespace(api_key=None)
        self.free = threading.Event()

    def init(self, **about):
        self.started.append(about)

    def log(self, values, step):
        if len(self.logged) == self.fails_at:
            raise RuntimeError("no\nnetwork")
        if len(self.logged) == self.hangs_at:
            self.free.wait(60)
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.fixture
def board(monkeypatch):
    def install(name="wandb", **how):
        made = Board(name, **how)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return install


def run_of(folder, **about):
    return TrackedRun(**{"tracker": "wandb", "id": "x", "project": "p", "name": "run/ddl", "folder": folder,
                         "config": {}, "step": 0, **about})  # fmt: skip


STEP = {"kind": "step", "step": 3, "loss": 2.0, "learning_rate": 0.1, "grad_norm": 1.0, "tokens": 8, "seconds": 0.5}


def test_a_step_has_its_numbers_by_name():
    assert dict(scalars(STEP)) == {
        "train/loss": 2.0, "train/learning_rate": 0.1, "train/grad_norm": 1.0, "train/tokens_per_second": 16.0,
    }  # fmt: skip


def test_an_evaluation_has_its_numbers_by_name_and_leaves_out_what_is_none():
    spectrum = dict.fromkeys(
        ("beta_mean", "beta_std", "k_eigenvalue", "discrepancy_before", "discrepancy_after"), 0.5
    ) | {"layer": 1, "sublayer": "mlp", "alignment": None}
    accuracy = {"lengths": "3-8", "overall": 0.75, "last": 0.5, "exact": 0.25}
    event = {
        "kind": "evaluation",
        "step": 3,
        "loss": 1.5,
        "bits_per_byte": None,
        "accuracies": [accuracy],
        "spectra": [spectrum],
    }
    found = dict(scalars(event))
    assert found["validation/loss"] == 1.5
    assert found["accuracy/3-8/last"] == 0.5
    assert found["gates/1.mlp/beta_mean"] == 0.5
    assert "validation/bits_per_byte" not in found
    assert "gates/1.mlp/alignment" not in found


@pytest.mark.parametrize("kind", ["started", "resumed", "checkpoint", "finished", "tracked"])
def test_other_events_have_no_numbers(kind):
    assert list(scalars({"kind": kind, "step": 1})) == []


def test_events_arrive_in_order_and_the_run_is_finished(board, tmp_path):
    made, said = board(), []
    tracker = Tracker(run_of(tmp_path), said.append)
    for step in range(1, 50):
        tracker.put(STEP | {"step": step})
    tracker.close()
    assert [step for step, _ in made.logged] == list(range(1, 50))
    assert made.finished == 1
    assert said == []


def test_a_tracker_that_fails_is_said_once(board, tmp_path):
    made, said = board(fails_at=2), []
    tracker = Tracker(run_of(tmp_path), said.append)
    for step in range(1, 50):
        tracker.put(STEP | {"step": step})
        time.sleep(0.001)
    tracker.close()
    assert len(made.logged) == 2
    assert said == ["tracker wandb failed, and the run goes on without it: RuntimeError: no network"]


def test_a_tracker_that_hangs_is_left_behind(board, tmp_path):
    made, said = board(hangs_at=0), []
    tracker = Tracker(run_of(tmp_path), said.append, patience=0.05)
    for step in range(1, 20_000):
        tracker.put(STEP | {"step": step})
    assert said == ["tracker wandb does not keep up; some of run/ddl is not tracked"]
    tracker.close()
    made.free.set()
    assert len(said) == 1


def test_wandb_never_asks_for_a_key(board, tmp_path):
    made = board()
    Tracker(run_of(tmp_path), print).close()
    assert made.started[0]["mode"] == "offline"
    made.api.api_key = "k"
    Tracker(run_of(tmp_path), print).close()
    assert "mode" not in made.started[1]


def test_a_tracker_that_is_not_there_is_refused_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ConfigError, match="tracker trackio is not installed; pip install trackio"):
        require_tracker("trackio")
    require_tracker(None)


class Listening(Silent):
    def __init__(self):
        self.heard = []

    def noted(self, line):
        self.heard.append(line)


def weights(run):
    latest = RunFolder(run).variant("ddl-cc").latest()
    return (latest / "model.safetensors").read_bytes(), (latest / "optimizer.safetensors").read_bytes()


def logged(run, kind):
    return [event for event in RunFolder(run).variant("ddl-cc").events.read() if event["kind"] == kind]


@pytest.mark.parametrize("how", [{}, {"fails_at": 1}], ids=["works", "fails"])
def test_what_is_tracked_is_what_is_logged_and_changes_no_bit(board, data, tmp_path, how):
    made, configs, reporter = board(**how), {"ddl-cc": tiny_config()}, Listening()
    train(configs, tiny_training(), data, tmp_path / "alone")
    train(configs, tiny_training(tracker="wandb"), data, tmp_path / "tracked", reporter=reporter)
    assert weights(tmp_path / "alone") == weights(tmp_path / "tracked")
    if how:
        assert reporter.heard == ["tracker wandb failed, and the run goes on without it: RuntimeError: no network"]
        return
    losses = [values["train/loss"] for _, values in made.logged if "train/loss" in values]
    assert losses == [event["loss"] for event in logged(tmp_path / "tracked", "step")]
    validation = [(step, values["validation/loss"]) for step, values in made.logged if "validation/loss" in values]
    assert validation == [(event["step"], event["loss"]) for event in logged(tmp_path / "tracked", "evaluation")]
    assert made.started[0]["name"] == "tracked/ddl-cc"
    assert made.started[0]["config"]["train.tracker"] == "wandb"
    assert reporter.heard == []


def test_a_resumed_run_goes_on_in_the_same_tracked_run(board, data, text_file, tmp_path):
    made = board()
    train({"ddl-cc": tiny_config()}, tiny_training(tracker="wandb"), data, tmp_path / "run", data_spec=str(text_file))
    before = len(made.logged)
    resume(tmp_path / "run", changes={"max_steps": 6})
    assert made.started[0]["id"] == made.started[1]["id"]
    assert [step for step, values in made.logged[before:] if "train/loss" in values] == [5, 6]


def test_tensorboard_files_have_every_number_once(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train({"ddl-cc": tiny_config()}, tiny_training(tracker="tensorboard"), data, tmp_path / "run")
    found = EventAccumulator(str(tmp_path / "run" / "ddl-cc" / "tensorboard"))
    found.Reload()
    losses = [(one.step, one.value) for one in found.Scalars("train/loss")]
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert [value for _, value in losses] == pytest.approx(
        [event["loss"] for event in logged(tmp_path / "run", "step")]
    )
    assert len(found.Scalars("gates/0.mlp/beta_mean")) == 2
