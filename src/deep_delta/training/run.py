"""A run: several variants trained one after the other on the same data, compared, stopped and resumed.

RUN/training_comparison.json    the plan at the start, the results as they come
RUN/tokenizer.json              so that a resumed run cuts the text as before
RUN/<slug>/                     see `runs.layout`
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deep_delta.data.batches import TrainingData
from deep_delta.data.opening import open_data
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import CheckpointError, ConfigError, NumericsError
from deep_delta.evaluation.ranking import rank_runs
from deep_delta.models.config import DdlConfig
from deep_delta.models.modes import usual_defaults
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.clock import now
from deep_delta.runs.comparison import Origin, Ranking, TrainingComparison
from deep_delta.runs.layout import BEST, RunFolder, resolve_checkpoint
from deep_delta.runs.manifest import read_manifest
from deep_delta.runs.storage import atomic_write, require_space
from deep_delta.training.checkpoint import checkpoint_bytes, require_same_data
from deep_delta.training.config import TrainingConfig
from deep_delta.training.loop import Job, train_variant
from deep_delta.training.provenance import origin
from deep_delta.training.reporting import Reporter, Silent
from deep_delta.training.signals import Interrupted, StopRequest
from deep_delta.training.summary import summarize_variant
from deep_delta.training.tracking import require_tracker
from deep_delta.training.validation import Validation

MAY_CHANGE = frozenset(
    (
        "max_steps",
        "max_time",
        "eval_interval",
        "checkpoint_interval",
        "keep_checkpoints",
        "compile",
        "recompute",
        "data_workers",
        "tracker",
    )
)
"""Training fields that a resumed run may give anew; a larger `max_steps` also stretches the cosine from there on."""

_TOKENIZER = "tokenizer.json"


def train(
    configs: Mapping[str, DdlConfig],
    training: TrainingConfig,
    data: TrainingData,
    out: str | Path,
    *,
    data_spec: str | None = None,
    device: str | torch.device = "cpu",
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
) -> TrainingComparison:
    """Train variants, by slug, into the new run folder `out`, and compare them. Seeds the global random generators.

    A variant whose loss or gradient stops being finite ends there; the others are trained, then `NumericsError` is
    raised. SIGINT, SIGTERM and the end of `max_time` raise `Interrupted` once the step is finished and saved.
    command: the words of the command line, for the record.

    Raises `ConfigError` when `out` holds something already or a model does not fit `data` or `seq_len`, `DataError` for
    a split shorter than a sequence, `StorageError` when the disk is or becomes too small.
    """
    run = prepare(configs, training, data, out, data_spec=data_spec, device=device, reporter=reporter, command=command)
    return run.train()


def prepare(
    configs: Mapping[str, DdlConfig],
    training: TrainingConfig,
    data: TrainingData,
    out: str | Path,
    *,
    data_spec: str | None = None,
    device: str | torch.device = "cpu",
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
    beside: int = 0,
) -> Run:
    """Check what `train` is about to do and write the plan into the new run folder `out`; `Run.train` goes on.

    beside: how many runs of the same size are still to come, whose space must be there too. Raises what `train` raises.
    """
    require_tracker(training.tracker)
    _require_fit(configs, training, data)
    _require_sequences(data, training)
    folder = RunFolder(Path(out)).create()
    with folder.lock():
        run = Run(folder, dict(configs), training, data, data_spec, torch.device(device), reporter or Silent(), command)
        needed = sum(checkpoint_bytes(_unfilled(config), training) for config in configs.values())
        require_space(folder.path, needed * (1 + beside))
        data.tokenizer.save(folder.path / _TOKENIZER)
        run.write_comparison()
    return run


def resume(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    data_spec: str | None = None,
    device: str | torch.device = "cpu",
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
) -> TrainingComparison:
    """Continue a RUN: every variant that is not finished, from its latest checkpoint or from the start.

    A CHECKPOINT of a run instead of a RUN continues that one variant from it; what was logged after it is dropped.
    changes: new values of fields in `MAY_CHANGE`, for the whole run. data_spec: where the same text lies now.

    Raises `CheckpointError` for what is damaged or no run, `ConfigError` for other changes and for a checkpoint that
    has all its steps, `DataError` when the text is not the one of before, and what `train` raises.
    """
    run = reopen(path, changes=changes, data_spec=data_spec, device=device, reporter=reporter, command=command)
    return run.train()


def reopen(
    path: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    data_spec: str | None = None,
    data: TrainingData | None = None,
    device: str | torch.device = "cpu",
    reporter: Reporter | None = None,
    command: Sequence[str] | None = None,
) -> Run:
    """A RUN as `resume` continues it. data: the run's data where they are open already. Raises what `resume` raises."""
    run_path, start = _locate(Path(path))
    folder = RunFolder(run_path).open()
    before = TrainingComparison.read(folder.comparison)
    training = _changed(before.training, changes or {}, folder)
    require_tracker(training.tracker)
    data_spec = before.data_spec if data_spec is None else data_spec
    if data is None:
        data = open_data(data_spec, fixed=Tokenizer.load(folder.path / _TOKENIZER))
    require_same_data("the run", before.data, data.identity, remedy="give the same data with --data")
    configs = {run.variant: _config(run.model, folder) for run in before.runs}
    only = None if start is None else (_variant_of(start, configs, training), start)
    device, reporter = torch.device(device), reporter or Silent()
    return Run(folder, configs, training, data, data_spec, device, reporter, command, only)


@dataclass
class Run:
    """A run folder, and everything that its variants share. only: one variant, and the checkpoint to go on from."""

    folder: RunFolder
    configs: dict[str, DdlConfig]
    training: TrainingConfig
    data: TrainingData
    data_spec: str | None
    device: torch.device
    reporter: Reporter
    command: Sequence[str] | None = None
    only: tuple[str, Path] | None = None

    def __post_init__(self) -> None:
        limit = self.training.max_time
        self.deadline = None if limit is None else time.monotonic() + limit
        self.origin: Origin = origin(self.device)
        self.parameters = {slug: _unfilled(config).num_parameters() for slug, config in self.configs.items()}

    def latest_checkpoints(self) -> dict[str, Path]:
        found = {slug: self.folder.variant(slug).latest() for slug in self.configs}
        return {slug: checkpoint for slug, checkpoint in found.items() if checkpoint is not None}

    def train(self) -> TrainingComparison:
        """Train each variant from where it stands, as the only writer; `resume` and `train` say what is raised."""
        with self.folder.lock():
            if self.only is None:
                return self._train(list(self.configs), self.latest_checkpoints())
            return self._train([self.only[0]], dict([self.only]))

    def _train(self, variants: list[str], checkpoints: Mapping[str, Path]) -> TrainingComparison:
        """Train each variant from its checkpoint; one whose checkpoint has all the steps is left alone."""
        done = [slug for slug, path in checkpoints.items() if read_manifest(path).step >= self.training.max_steps]
        pending = [slug for slug in variants if slug not in done]
        failed: NumericsError | None = None
        comparison = self.write_comparison()
        self.reporter.run_started(pending, self.training.max_steps)
        with StopRequest(self.deadline) as stop:
            for slug in pending:
                if (asked := stop.asked()) is not None:
                    raise Interrupted(f"{asked} before {slug}; continue with --resume {self.folder.whole}", stop.signum)
                try:
                    train_variant(self.job(slug), checkpoints.get(slug), reporter=self.reporter, stop=stop)
                except NumericsError as error:
                    self.folder.variant(slug).events.append("failed", problem=str(error), time=now())
                    failed = failed or NumericsError(f"{slug}: {error}")
                finally:
                    comparison = self.write_comparison()
        if failed is not None:
            raise failed
        return comparison

    def job(self, slug: str) -> Job:
        command = None if self.command is None else tuple(self.command)
        folder = self.folder.variant(slug)
        return Job(self.configs[slug], self.training, self.data, folder, self.device, command, self.origin.commit)

    def write_comparison(self) -> TrainingComparison:
        comparison = self.comparison()
        atomic_write(self.folder.comparison, comparison.to_json())
        return comparison

    def comparison(self) -> TrainingComparison:
        """Gather what all variants of the run have logged so far."""
        unranked = TrainingComparison(
            training=self.training.model_dump(),
            data=self.data.identity,
            data_spec=self.data_spec,
            origin=self.origin,
            runs=tuple(
                summarize_variant(self.folder.variant(slug), config, self.training, self.parameters[slug])
                for slug, config in self.configs.items()
            ),
            ranking=Ranking(measure="", rule="", standings=()),
        )
        return unranked.model_copy(update={"ranking": rank_runs([unranked])})


def _unfilled(config: DdlConfig) -> DdlTransformer:
    """A model whose parameters have sizes but no values: it costs no time and draws no random numbers."""
    with usual_defaults(), torch.device("meta"):
        model = DdlTransformer(config)
    return model.to_empty(device="cpu")


def _require_fit(configs: Mapping[str, DdlConfig], training: TrainingConfig, data: TrainingData) -> None:
    if not configs:
        raise ConfigError("there is no variant to train; name one, or all")
    for slug, config in configs.items():
        if config.vocab_size < data.tokenizer.vocab_size:
            raise ConfigError(
                f"{slug}: vocab_size must be at least {data.tokenizer.vocab_size}, the tokens of tokenizer "
                f"{data.tokenizer.name}, got {config.vocab_size}"
            )
        limit, needed = config.context_limit, data.context(training.seq_len)
        if limit is not None and limit < needed:
            what = f"seq_len {needed}" if needed == training.seq_len else f"the {needed} tokens of the longest test"
            raise ConfigError(f"{slug}: max_seq_len must be at least {what}, got {limit}")


def _require_sequences(data: TrainingData, training: TrainingConfig) -> None:
    """`DataError` or `ConfigError` where there is no sequence to train or to evaluate on."""
    data.training_batches(batch_size=training.batch_size, seq_len=training.seq_len, seed=training.seed)
    Validation.of(data, training)


def _locate(path: Path) -> tuple[Path, Path | None]:
    """The run folder that `path` means, and the one checkpoint where it means one."""
    if RunFolder(path).comparison.exists():
        return path, None
    if path.is_dir() and RunFolder(path).variants():
        raise CheckpointError(f"{path} has no training_comparison.json to resume from; name one of its checkpoints")
    checkpoint = resolve_checkpoint(path).absolute()
    if checkpoint.name == BEST:
        raise CheckpointError(f"{checkpoint} holds weights only; resume from {checkpoint.parent.name}, which it is in")
    run = RunFolder.around(checkpoint)
    if not run.comparison.exists():
        raise CheckpointError(f"{checkpoint} is not in a run with a training_comparison.json; copy the whole run")
    return run.path, checkpoint


def _changed(fields: Mapping[str, Any], changes: Mapping[str, Any], folder: RunFolder) -> TrainingConfig:
    """The run's training configuration with the user's changes."""
    for name, value in changes.items():
        if name not in MAY_CHANGE and fields.get(name) != value:
            raise ConfigError(
                f"a resumed run keeps its {name} ({fields.get(name)!r}), got {value!r}; "
                f"only {', '.join(sorted(MAY_CHANGE))} may change"
            )
    before = TrainingConfig.from_json(json.dumps(fields), error=CheckpointError, where=str(folder.comparison))
    return TrainingConfig(**{**before.model_dump(), **changes})


def _config(fields: Mapping[str, Any], folder: RunFolder) -> DdlConfig:
    return DdlConfig.from_json(json.dumps(fields), error=CheckpointError, where=str(folder.comparison))


def _variant_of(checkpoint: Path, configs: Mapping[str, DdlConfig], training: TrainingConfig) -> str:
    manifest = read_manifest(checkpoint)
    if manifest.variant not in configs:
        raise CheckpointError(f"{checkpoint} is of {manifest.variant}, which its run does not have")
    if manifest.step >= training.max_steps:
        raise ConfigError(
            f"{checkpoint} has {manifest.step} of {training.max_steps} steps; give a larger --train.max-steps"
        )
    return manifest.variant
