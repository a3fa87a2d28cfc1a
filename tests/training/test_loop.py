"""One variant: a stop changes nothing, and nothing that a stop must carry over can be forgotten unseen."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deep_delta.data.tokens import Dataset
from deep_delta.errors import DataError, NumericsError
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.comparison import Evaluation
from deep_delta.runs.layout import VariantFolder
from deep_delta.training import loop, step
from deep_delta.training.checkpoint import TrainState, load_checkpoint
from deep_delta.training.config import TrainingConfig
from deep_delta.training.loop import Job, train_variant
from deep_delta.training.reporting import Silent
from deep_delta.training.signals import Interrupted, StopRequest
from deep_delta.training.validation import Validation
from tests.training.tiny import StopAfter, differences, tiny_config, tiny_training

STOP_AT = 5
LOSSES = {2: 3.0, 4: 2.0, 6: 2.5, 7: 2.25}
"""Of the evaluations: the best one is before the stop, and each later one beats an empty best-so-far."""


def job_of(data: Dataset, folder: Path, training: TrainingConfig, variant: str = "ddl-cc", **fields: Any) -> Job:
    config = tiny_config(variant, **fields)
    return Job(config, training, data, VariantFolder(folder / variant), torch.device("cpu"))


def train(job: Job, checkpoint: Path | None = None) -> None:
    train_variant(job, checkpoint, reporter=Silent(), stop=StopRequest())


def train_until(job: Job, last: int, checkpoint: Path | None = None, signum: int = signal.SIGINT) -> Interrupted:
    stop = StopRequest()
    with pytest.raises(Interrupted) as caught:
        train_variant(job, checkpoint, reporter=StopAfter(stop, last, signum), stop=stop)
    return caught.value


class Noisy(DdlTransformer):
    """Draws random numbers in training, as dropout would."""

    def forward(self, ids: Tensor, *rest: Any, **options: Any) -> Tensor:
        if self.training:
            ids = torch.where(torch.rand(ids.shape) < 0.1, 0, ids)
        return super().forward(ids, *rest, **options)


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    """A training in which everything that a checkpoint carries matters."""
    measure = Validation.measure

    def chosen(self: Validation, model: DdlTransformer, step: int) -> Evaluation:
        return measure(self, model, step).model_copy(update={"loss": LOSSES[step]})

    monkeypatch.setattr(loop, "DdlTransformer", Noisy)
    monkeypatch.setattr(Validation, "measure", chosen)
    return tiny_training(max_steps=7, warmup_steps=2, accumulation_steps=2, checkpoint_interval=3)


def test_a_stopped_and_resumed_training_is_the_same_to_the_last_bit(
    noisy: TrainingConfig, data: Dataset, tmp_path: Path
):
    whole, halves = job_of(data, tmp_path / "whole", noisy), job_of(data, tmp_path / "halves", noisy)
    train(whole)
    train_until(halves, STOP_AT)
    train(halves, halves.folder.latest())
    assert differences(whole.folder, halves.folder) == []
    kinds = [event["kind"] for event in halves.folder.events.read()]
    assert kinds.count("stopped") == kinds.count("resumed") == 1


@pytest.mark.parametrize("last", [1, 2, 3, 4, 6])
def test_wherever_it_stops(last: int, noisy: TrainingConfig, data: Dataset, tmp_path: Path):
    whole, halves = job_of(data, tmp_path / "whole", noisy), job_of(data, tmp_path / "halves", noisy)
    train(whole)
    train_until(halves, last)
    train(halves, halves.folder.latest())
    assert differences(whole.folder, halves.folder) == []


def test_stopped_twice_and_prepared_by_threads_in_between(noisy: TrainingConfig, data: Dataset, tmp_path: Path):
    whole, thirds = job_of(data, tmp_path / "whole", noisy), job_of(data, tmp_path / "thirds", noisy)
    train(whole)
    train_until(thirds, 3)
    threaded = dataclasses.replace(thirds, training=noisy.model_copy(update={"data_workers": 2}))
    train_until(threaded, 5, thirds.folder.latest())
    train(thirds, thirds.folder.latest())
    unlike = differences(whole.folder, thirds.folder)
    assert unlike == ["best_validation/manifest.json", "manifest.json"]  # which name the worker threads


def forget_rng(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)


def forget_moments(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    optimizer.state.clear()


def forget_step(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    state.step = 0


def forget_data_position(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    state.micro_step = 0


def forget_best_so_far(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    state.best_loss = state.best_step = state.best_weights = None


def forget_best_weights(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    state.best_weights = {}


def forget_schedule(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    rate = step.learning_rate
    patch.setattr(step, "learning_rate", lambda index, config: rate(index - STOP_AT, config))


def forget_accumulation(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    state.micro_step = state.step


def forget_tokens_seen(state: TrainState, optimizer: torch.optim.Optimizer, patch: pytest.MonkeyPatch) -> None:
    state.tokens_seen = 0


MUTANTS = {
    forget_rng: "events: step",
    forget_moments: "optimizer.safetensors",
    forget_step: "events: step",
    forget_data_position: "events: step",
    forget_best_so_far: "best_validation/model.safetensors",
    forget_best_weights: "best_validation/model.safetensors",
    forget_schedule: "events: step",
    forget_accumulation: "events: step",
    forget_tokens_seen: "state.json",
}


@pytest.mark.parametrize("forget", MUTANTS, ids=lambda forget: forget.__name__)
def test_a_resume_that_forgets_something_is_caught(
    forget: Callable[[TrainState, torch.optim.Optimizer, pytest.MonkeyPatch], None],
    noisy: TrainingConfig,
    data: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    whole, halves = job_of(data, tmp_path / "whole", noisy), job_of(data, tmp_path / "halves", noisy)
    train(whole)
    train_until(halves, STOP_AT)
    restore = loop.restore

    def forgetful(path: Path, **parts: Any) -> TrainState:
        state = restore(path, **parts)
        forget(state, parts["optimizer"], monkeypatch)
        return state

    monkeypatch.setattr(loop, "restore", forgetful)
    monkeypatch.setitem(LOSSES, 1, 9.0)  # where a mutant evaluates at other steps
    train(halves, halves.folder.latest())
    assert MUTANTS[forget] in differences(whole.folder, halves.folder)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(signum: int, code: int, data: Dataset, tmp_path: Path):
    job = job_of(data, tmp_path / "run", tiny_training())
    error = train_until(job, 3, signum=signum)
    assert error.exit_code == code
    assert f"--resume {tmp_path / 'run'}" in str(error)
    latest = job.folder.latest()
    assert latest is not None
    assert latest.name == "step-3"
    assert [event["step"] for event in job.folder.events.read() if event["kind"] == "step"] == [1, 2, 3]


def test_a_stop_that_comes_with_the_last_step_only_ends_the_training(data: Dataset, tmp_path: Path):
    job, stop = job_of(data, tmp_path, tiny_training()), StopRequest()
    train_variant(job, None, reporter=StopAfter(stop, 4, signal.SIGINT), stop=stop)
    last = job.folder.events.read()[-1]
    assert (last["kind"], last["step"]) == ("finished", 4)


def test_events_of_a_future_that_was_not_saved_are_dropped(data: Dataset, tmp_path: Path):
    whole, killed = (
        job_of(data, tmp_path / name, tiny_training(checkpoint_interval=2)) for name in ("whole", "killed")
    )
    train(whole)
    train_until(killed, 2)
    killed.folder.events.append("step", step=3, loss=1.0)
    killed.folder.events.append("evaluation", step=4, loss=1.0)
    train(killed, killed.folder.latest())
    assert differences(whole.folder, killed.folder) == []


def test_a_start_without_a_checkpoint_begins_the_log_anew(data: Dataset, tmp_path: Path):
    whole, killed = (job_of(data, tmp_path / name, tiny_training()) for name in ("whole", "killed"))
    train(whole)
    killed.folder.events.append("started", step=0, seed=0, parameters=0)
    killed.folder.events.append("step", step=1, loss=1.0)
    train(killed)
    assert differences(whole.folder, killed.folder) == []


def test_evaluations_come_at_the_interval_and_at_the_end_with_a_spectrum_of_every_sublayer(
    data: Dataset, tmp_path: Path
):
    job = job_of(data, tmp_path, tiny_training(max_steps=5))
    train(job)
    evaluations = [event for event in job.folder.events.read() if event["kind"] == "evaluation"]
    assert [event["step"] for event in evaluations] == [2, 4, 5]
    for event in evaluations:
        assert [(one["layer"], one["sublayer"]) for one in event["spectra"]] == [(0, "mixer"), (0, "mlp")]
        assert event["bits_per_byte"] == pytest.approx(event["loss"] / 0.6931471805599453)


def test_evaluating_more_often_does_not_change_what_is_learnt(data: Dataset, tmp_path: Path):
    often, once = (job_of(data, tmp_path / str(n), tiny_training(eval_interval=n)) for n in (1, 4))
    train(often)
    train(once)
    changed = differences(often.folder, once.folder)
    assert "model.safetensors" not in changed
    assert "optimizer.safetensors" not in changed


def test_the_additive_baseline_has_no_spectrum(data: Dataset, tmp_path: Path):
    job = job_of(data, tmp_path, tiny_training(), "baseline")
    train(job)
    assert [e["spectra"] for e in job.folder.events.read() if e["kind"] == "evaluation"] == [[], []]


def test_without_a_validation_split_the_loss_is_null_with_a_reason_and_there_is_no_best(data: Dataset, tmp_path: Path):
    job = job_of(dataclasses.replace(data, validation=None), tmp_path, tiny_training())
    train(job)
    evaluations = [event for event in job.folder.events.read() if event["kind"] == "evaluation"]
    assert [(event["loss"], event["bits_per_byte"], event["best"]) for event in evaluations] == [
        (None, None, False)
    ] * 2
    assert evaluations[0]["reason"] == "the corpus has no validation split"
    assert len(evaluations[0]["spectra"]) == 2
    latest = job.folder.latest()
    assert latest is not None
    assert not (latest / "best_validation").exists()


def test_the_best_copy_is_the_model_of_its_evaluation(noisy: TrainingConfig, data: Dataset, tmp_path: Path):
    job = job_of(data, tmp_path / "whole", noisy)
    train(job)
    at_best = job_of(data, tmp_path / "best", noisy)
    train_until(at_best, 4)
    best, _, manifest = load_checkpoint(job.folder.latest() / "best_validation")
    expected, _, _ = load_checkpoint(at_best.folder.latest())
    assert manifest.step == 4
    assert all(map(torch.equal, best.state_dict().values(), expected.state_dict().values()))


def poisoned(at: int) -> type[DdlTransformer]:
    class Poisoned(DdlTransformer):
        calls = 0

        def forward(self, ids: Tensor, targets: Tensor | None = None, **options: Any) -> Tensor:
            found = super().forward(ids, targets, **options)
            Poisoned.calls += targets is not None
            return found * (float("nan") if targets is not None and Poisoned.calls == at else 1.0)

    return Poisoned


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_checkpoint_before(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    quiet = {"eval_interval": 100, "checkpoint_interval": 2}
    job = job_of(data, tmp_path / "nan", tiny_training(max_steps=6, **quiet))
    monkeypatch.setattr(loop, "DdlTransformer", poisoned(at=4))
    with pytest.raises(NumericsError, match="the loss is nan at step 4, batch 3;"):
        train(job)
    monkeypatch.undo()
    healthy = job_of(data, tmp_path / "healthy", tiny_training(max_steps=6, **quiet))
    train_until(healthy, 2)
    assert "model.safetensors" not in differences(job.folder, healthy.folder)
    assert job.folder.latest().name == "step-2"


def test_a_validation_loss_that_is_not_finite_is_never_saved_as_best(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = job_of(data, tmp_path, tiny_training(checkpoint_interval=1))
    monkeypatch.setattr(loop, "DdlTransformer", poisoned(at=3))
    with pytest.raises(NumericsError, match="evaluation batch 0 is nan, at the evaluation after step 2"):
        train(job)
    assert job.folder.latest().name == "step-1"


def test_a_validation_split_shorter_than_a_sequence_is_refused_before_the_first_step(data: Dataset, tmp_path: Path):
    job = job_of(dataclasses.replace(data, validation=data.validation[:10]), tmp_path, tiny_training())
    with pytest.raises(DataError):
        train(job)
    assert job.folder.events.read() == []


def test_hooks_and_wrappers_of_a_model_see_every_step_and_every_evaluation(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[bool] = []

    class Hooked(DdlTransformer):
        def __init__(self, config: DdlConfig) -> None:
            super().__init__(config)
            self.register_forward_pre_hook(lambda model, given: seen.append(len(given) == 2 and model.training))

    monkeypatch.setattr(loop, "DdlTransformer", Hooked)
    train(job_of(data, tmp_path, tiny_training(max_steps=2, accumulation_steps=2)))
    assert seen.count(True) == 4
    assert seen.count(False) == 3  # two batches of an evaluation, and the look at the gates


@pytest.mark.parametrize("fields", [{}, {"mixer": "deltanet"}, {"residual": "hyper"}], ids=str)
def test_blocks_that_run_again_learn_the_same(fields: dict[str, Any], data: Dataset, tmp_path: Path):
    stored, again = (
        job_of(data, tmp_path / str(on), tiny_training(recompute=on, accumulation_steps=2), "ddl-ec", **fields)
        for on in (False, True)
    )
    train(stored)
    train(again)
    one, other = (
        [event["loss"] for event in job.folder.events.read() if event["kind"] in ("step", "evaluation")]
        for job in (stored, again)
    )
    assert other == pytest.approx(one, rel=1e-6)


def test_a_training_that_recomputes_keeps_less_for_the_backward_pass():
    ids = torch.zeros(2, 16, dtype=torch.int64)
    model = DdlTransformer(tiny_config())

    def kept(recompute: bool) -> int:
        sizes: list[int] = []
        loss_of = step.prepare_loss(model, tiny_training(recompute=recompute))
        with torch.autograd.graph.saved_tensors_hooks(lambda one: sizes.append(one.numel()) or one, lambda one: one):
            loss_of(ids, ids)
        return sum(sizes)

    assert kept(recompute=True) < kept(recompute=False) / 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_learn(precision: str, data: Dataset, tmp_path: Path):
    job = job_of(data, tmp_path, tiny_training(max_steps=12, precision=precision, learning_rate=1e-2))
    train(job)
    losses = [event["loss"] for event in job.folder.events.read() if event["kind"] == "step"]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("recompute", [False, True])
def test_a_compiled_model_learns_the_same_and_is_saved_as_a_plain_one(recompute: bool, data: Dataset, tmp_path: Path):
    eager, compiled = (
        job_of(data, tmp_path / str(on), tiny_training(compile=on, recompute=on and recompute)) for on in (False, True)
    )
    train(eager)
    train(compiled)
    one, other = (
        [event["loss"] for event in job.folder.events.read() if event["kind"] == "step"] for job in (eager, compiled)
    )
    assert other == pytest.approx(one, rel=1e-4)
    load_checkpoint(compiled.folder.latest())
