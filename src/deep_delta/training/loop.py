"""Training one variant, from its first step or from a checkpoint to its last step.

A run stops between steps only. Everything depends on (configuration, data, seed, step) alone, so that on a CPU a run
which was stopped and resumed equals, bit for bit, one that never was.
"""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deep_delta.data.batches import Batches, TrainingData
from deep_delta.errors import NumericsError
from deep_delta.evaluation.flops import flops_per_token
from deep_delta.models.config import DdlConfig
from deep_delta.models.modes import usual_defaults
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.clock import now
from deep_delta.runs.layout import RunFolder, VariantFolder
from deep_delta.training.checkpoint import TrainState, restore, save_checkpoint
from deep_delta.training.config import TrainingConfig
from deep_delta.training.optimizer import build_optimizer
from deep_delta.training.reporting import Reporter, StepReport
from deep_delta.training.signals import Interrupted, StopRequest
from deep_delta.training.step import prepare_loss, take_step
from deep_delta.training.tracking import Tracker, follow
from deep_delta.training.validation import Validation


@dataclass(frozen=True)
class Job:
    """One variant to train: what, how, on which data, and where it is kept."""

    config: DdlConfig
    training: TrainingConfig
    data: TrainingData
    folder: VariantFolder
    device: torch.device
    command: tuple[str, ...] | None = None
    """the command line that asked for it"""
    commit: str | None = None
    """of the package's source"""

    @property
    def variant(self) -> str:
        return self.folder.slug


def train_variant(job: Job, checkpoint: Path | None, *, reporter: Reporter, stop: StopRequest) -> None:
    """Train until `max_steps`, from `checkpoint` where there is one; the caller holds the run's lock.

    Seeds the global random generators. At every `eval_interval` and at the end the model is evaluated, at every
    `checkpoint_interval` and at the end it is saved; events tell of it all. When `stop` asks, the step is finished and
    saved, and `Interrupted` raised.

    Raises `NumericsError` (the update that caused it is not made, or at least not saved), `DataError` for splits
    shorter than a sequence, `StorageError`; checkpoints saved before stay as they are.
    """
    with _begin(job, checkpoint, reporter) as run:
        _train(run, stop)


def _train(run: _Run, stop: StopRequest) -> None:
    job, state, training, reporter = run.job, run.state, run.job.training, run.reporter
    loss_of = prepare_loss(run.model, training)
    reporter.variant_started(job.variant, state.step, training.max_steps)
    batches = run.batches.prefetch(state.micro_step, training.data_workers)
    while state.step < training.max_steps:
        started = time.perf_counter()
        result = take_step(loss_of, run.optimizer, batches, state.step, training)
        state.step += 1
        state.micro_step += training.accumulation_steps
        state.tokens_seen += result.tokens
        run.log_step(StepReport(state.step, seconds=time.perf_counter() - started, **vars(result)))
        if run.is_due(training.eval_interval):
            run.evaluate()
        asked = stop.asked()
        if asked is not None or run.is_due(training.checkpoint_interval):
            run.save()
        if asked is not None and state.step < training.max_steps:
            run.stop(asked, stop.signum)
    run.log("finished", step=state.step, time=now())
    reporter.variant_finished(job.variant, state.step)


@dataclass
class _Run:
    """A variant in training and all that moves with it."""

    job: Job
    model: DdlTransformer
    optimizer: torch.optim.Optimizer
    state: TrainState
    batches: Batches
    validation: Validation
    reporter: Reporter
    tracker: Tracker | None = None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        if self.tracker is not None:
            self.tracker.close()

    def log(self, kind: str, *, durable: bool = True, **fields: Any) -> None:
        """Write an event, and have it tracked."""
        self.job.folder.events.append(kind, durable=durable, **fields)
        if self.tracker is not None:
            self.tracker.put({"kind": kind, **fields})

    def is_due(self, interval: int) -> bool:
        """Whether something that happens every `interval` steps, and after the last one, happens now."""
        return self.state.step % interval == 0 or self.state.step == self.job.training.max_steps

    def log_step(self, report: StepReport) -> None:
        self.log("step", durable=False, **vars(report))
        self.reporter.stepped(self.job.variant, report)

    def evaluate(self) -> None:
        """Measure the model; without validation data the best so far stays unchanged."""
        try:
            evaluation = self.validation.measure(self.model, self.state.step)
        except NumericsError as error:
            raise NumericsError(f"{error}, at the evaluation after step {self.state.step}") from None
        best = evaluation.loss is not None and self.state.record_validation(evaluation.loss, self.model)
        self.log("evaluation", best=best, **evaluation.model_dump(mode="json"))
        self.reporter.evaluated(self.job.variant, evaluation, best=best)

    def save(self) -> None:
        job = self.job
        path = save_checkpoint(
            job.folder.checkpoints,
            variant=job.variant,
            model=self.model,
            optimizer=self.optimizer,
            state=self.state,
            training=job.training,
            tokenizer=job.data.tokenizer,
            data=job.data.identity,
            report=self._report(),
        )
        self.log("checkpoint", step=self.state.step, name=path.name)
        self.reporter.saved(job.variant, self.state.step, path)

    def stop(self, asked: str, signum: int | None) -> None:
        step = self.state.step
        self.log("stopped", step=step, signal=None if signum is None else signal.Signals(signum).name, time=now())
        raise Interrupted(
            f"{asked} after step {step} of {self.job.variant}, which is saved; "
            f"continue with --resume {RunFolder(self.job.folder.path.parent).whole}",
            signum,
        )

    def _report(self) -> dict:
        """report.json of a checkpoint: the same at the same step, stopped or not."""
        state = self.state
        return {
            "step": state.step,
            "tokens_seen": state.tokens_seen,
            "best_loss": state.best_loss,
            "best_step": state.best_step,
            "parameters": self.model.num_parameters(),
        }


def _begin(job: Job, checkpoint: Path | None, reporter: Reporter) -> _Run:
    """Build everything from the seed, then put it to where the checkpoint found it; `restore` comes last."""
    training = job.training
    _seed(training.seed)
    with usual_defaults():
        model = DdlTransformer(job.config).to(job.device)
    optimizer = build_optimizer(model, training)
    batches = job.data.training_batches(batch_size=training.batch_size, seq_len=training.seq_len, seed=training.seed)
    validation = Validation.of(job.data, training)
    events = job.folder.events
    about: dict[str, Any] = {
        "time": now(),
        "command": None if job.command is None else list(job.command),
        "commit": job.commit,
        "max_steps": training.max_steps,
        "flops_per_token": flops_per_token(job.config, training.seq_len).training,
    }
    if checkpoint is None:
        state = TrainState()
        events.truncate_after(-1)
        events.append("started", step=0, seed=training.seed, parameters=model.num_parameters(), **about)
    else:
        state = restore(checkpoint, model=model, optimizer=optimizer, training=training, data=job.data.identity)
        events.truncate_after(state.step)
        events.append("resumed", step=state.step, checkpoint=checkpoint.name, **about)
    model.train()
    tracker = follow(job.folder, job.config, training, state.step, reporter.noted)
    return _Run(job, model, optimizer, state, batches, validation, reporter, tracker)


def _seed(seed: int) -> None:
    """Every global generator, whether training draws from it today or not."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the generator that others may draw from)
    torch.manual_seed(seed)
