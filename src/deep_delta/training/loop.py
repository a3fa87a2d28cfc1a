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

import numpy as np
import torch

from deep_delta.data.batches import Batches, TrainingData
from deep_delta.errors import NumericsError
from deep_delta.models.config import DdlConfig
from deep_delta.models.modes import usual_defaults
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.layout import VariantFolder
from deep_delta.training.checkpoint import TrainState, restore, save_checkpoint
from deep_delta.training.config import TrainingConfig
from deep_delta.training.optimizer import build_optimizer
from deep_delta.training.reporting import Reporter, StepReport
from deep_delta.training.signals import Interrupted, StopRequest
from deep_delta.training.step import prepare_loss, take_step
from deep_delta.training.validation import Validation


@dataclass(frozen=True)
class Job:
    """One variant to train: what, how, on which data, and where it is kept."""

    config: DdlConfig
    training: TrainingConfig
    data: TrainingData
    folder: VariantFolder
    device: torch.device

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
    run = _begin(job, checkpoint, reporter)
    state, training = run.state, job.training
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
        asked = stop.signum
        if asked is not None or run.is_due(training.checkpoint_interval):
            run.save()
        if asked is not None and state.step < training.max_steps:
            run.stop(asked)
    job.folder.events.append("finished", step=state.step)
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

    def is_due(self, interval: int) -> bool:
        """Whether something that happens every `interval` steps, and after the last one, happens now."""
        return self.state.step % interval == 0 or self.state.step == self.job.training.max_steps

    def log_step(self, report: StepReport) -> None:
        self.job.folder.events.append("step", durable=False, **vars(report))
        self.reporter.stepped(self.job.variant, report)

    def evaluate(self) -> None:
        """Measure the model; without validation data the best so far stays unchanged."""
        try:
            evaluation = self.validation.measure(self.model, self.state.step)
        except NumericsError as error:
            raise NumericsError(f"{error}, at the evaluation after step {self.state.step}") from None
        best = evaluation.loss is not None and self.state.record_validation(evaluation.loss, self.model)
        self.job.folder.events.append("evaluation", best=best, **evaluation.model_dump(mode="json"))
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
        job.folder.events.append("checkpoint", step=self.state.step, name=path.name)
        self.reporter.saved(job.variant, self.state.step, path)

    def stop(self, signum: int) -> None:
        name, step = signal.Signals(signum).name, self.state.step
        self.job.folder.events.append("stopped", step=step, signal=name)
        raise Interrupted(
            f"stopped by {name} after step {step} of {self.job.variant}, which is saved; "
            f"continue with --resume {self.job.folder.path.parent}",
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
    if checkpoint is None:
        state = TrainState()
        job.folder.events.truncate_after(-1)
        job.folder.events.append("started", step=0, seed=training.seed, parameters=model.num_parameters())
    else:
        state = restore(checkpoint, model=model, optimizer=optimizer, training=training, data=job.data.identity)
        job.folder.events.truncate_after(state.step)
        job.folder.events.append("resumed", step=state.step, checkpoint=checkpoint.name)
    model.train()
    return _Run(job, model, optimizer, state, batches, validation, reporter)


def _seed(seed: int) -> None:
    """Every global generator, whether training draws from it today or not."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the generator that others may draw from)
    torch.manual_seed(seed)
