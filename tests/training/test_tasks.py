"""Training on a synthetic task: the same loop, the same resumption, and answers instead of bytes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from deep_delta.data.opening import open_data
from deep_delta.data.synthetic.tasks import TASKS, parse_task
from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation.accuracy import measure_accuracy
from deep_delta.evaluation.ranking import ANSWER_LOSS, VALIDATION_LOSS
from deep_delta.runs.comparison import TrainingComparison
from deep_delta.runs.layout import RunFolder, VariantFolder
from deep_delta.training.checkpoint import load_checkpoint
from deep_delta.training.loop import Job, train_variant
from deep_delta.training.reporting import Silent
from deep_delta.training.run import resume, train
from deep_delta.training.signals import Interrupted, StopRequest
from deep_delta.training.validation import NO_BYTES
from tests.training.tiny import StopAfter, differences, tiny_config, tiny_training

SPEC = "synth:parity:train=3-8,test=8-32"


def config_for(spec: str, seq_len: int, variant: str = "ddl-cc", **fields):
    data = open_data(spec)
    return tiny_config(variant, vocab_size=data.tokenizer.vocab_size, max_seq_len=data.context(seq_len), **fields)


@pytest.mark.parametrize("last", [1, 2, 3, 5])
def test_a_stopped_and_resumed_training_is_the_same_to_the_last_bit(last: int, tmp_path: Path):
    training = tiny_training(max_steps=6, seq_len=8, accumulation_steps=2, checkpoint_interval=2, data_workers=1)
    config, device = config_for(SPEC, 8), torch.device("cpu")
    whole, halves = (
        Job(config, training, open_data(SPEC), VariantFolder(tmp_path / name / "ddl-cc"), device)
        for name in ("whole", "halves")
    )
    train_variant(whole, None, reporter=Silent(), stop=StopRequest())
    stop = StopRequest()
    with pytest.raises(Interrupted):
        train_variant(halves, None, reporter=StopAfter(stop, last, signal.SIGINT), stop=stop)
    train_variant(halves, halves.folder.latest(), reporter=Silent(), stop=StopRequest())
    assert differences(whole.folder, halves.folder) == []


def test_a_run_records_right_answers_over_training_lengths_and_at_the_end_by_test_length(tmp_path: Path):
    configs = {variant: config_for(SPEC, 8, variant) for variant in ("baseline", "ddl-cc")}
    found = train(configs, tiny_training(seq_len=8), open_data(SPEC), tmp_path / "run", data_spec=SPEC)
    assert found.ranking.measure == ANSWER_LOSS != VALIDATION_LOSS
    assert len(found.ranking.standings) == 2
    for run in TrainingComparison.read(RunFolder(tmp_path / "run").comparison).runs:
        first, last = run.evaluations
        assert [one.lengths for one in first.accuracies] == ["3-8"]
        assert [one.lengths for one in last.accuracies] == ["3-8", "8", "16", "32"]
        assert [one.num_sequences for one in last.accuracies] == [4, 4, 4, 4]
        for one in (first, last):
            assert (one.bits_per_byte, one.num_bytes, one.reason) == (None, 0, NO_BYTES)
            assert one.loss is not None
            assert one.tokens == one.accuracies[0].num_answers
        assert len(last.spectra) == (0 if run.variant == "baseline" else 2)
        assert run.best_loss == min(first.loss, last.loss)


def test_the_saved_accuracy_is_that_of_the_saved_model(tmp_path: Path):
    training = tiny_training(seq_len=8, batch_size=4, eval_batches=3)
    found = train({"ddl-cc": config_for(SPEC, 8)}, training, open_data(SPEC), tmp_path / "run")
    model, tokenizer, _ = load_checkpoint(tmp_path / "run" / "ddl-cc")
    assert tokenizer.encode("1 0 1") == [1, 0, 1]
    assert found.runs[0].evaluations[-1].accuracies[-1] == measure_accuracy(model, SPEC, 32, 12).summary("32")


def test_a_run_is_resumed_from_what_its_file_says_and_on_no_other_task(tmp_path: Path):
    run = tmp_path / "run"
    train({"ddl-cc": config_for(SPEC, 8)}, tiny_training(seq_len=8), open_data(SPEC), run, data_spec=SPEC)
    assert resume(run, changes={"max_steps": 6}).runs[0].step == 6
    assert resume(run, changes={"max_steps": 8}, data_spec="synth:parity:test=8-32,train=3-8").runs[0].step == 8
    for other in ("synth:parity", "synth:s3"):
        with pytest.raises(DataError, match="the run was trained on synth:parity:train=3-8,test=8-32"):
            resume(run, changes={"max_steps": 10}, data_spec=other)


def test_a_model_that_does_not_hold_the_test_lengths_is_refused(tmp_path: Path):
    config = tiny_config(vocab_size=4, max_seq_len=16)
    with pytest.raises(ConfigError, match="max_seq_len must be at least the 32 tokens of the longest test, got 16"):
        train({"ddl-cc": config}, tiny_training(seq_len=8), open_data(SPEC), tmp_path / "run")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_trained_on(name: str, tmp_path: Path):
    spec = f"synth:{name}:{TASKS[name].train_option}=2-4,test=4"
    task = parse_task(spec)
    tokens = task.num_tokens(4)
    training = tiny_training(seq_len=tokens, max_steps=2)
    found = train({"ddl": config_for(spec, tokens, "ddl")}, training, open_data(spec), tmp_path / "run")
    assert [one.lengths for one in found.runs[0].evaluations[-1].accuracies][-1] == "4"


@pytest.mark.parametrize(("spec", "loss"), [("synth:copying:train=1-5,test=5,symbols=4", 0.7), (SPEC, 0.4)])
def test_what_can_be_learnt_is_learnt(spec: str, loss: float, tmp_path: Path):
    training = tiny_training(
        max_steps=150,
        batch_size=32,
        seq_len=10,
        learning_rate=5e-3,
        warmup_steps=20,
        weight_decay=0.0,
        eval_interval=75,
    )
    config = config_for(spec, 10, d_model=32, num_layers=2)
    found = train({"ddl-cc": config}, training, open_data(spec), tmp_path / "run").runs[0]
    start = found.curve[0].loss
    assert found.best_loss < loss < start - 0.5
    assert found.evaluations[-1].accuracies[0].overall > 0.75
