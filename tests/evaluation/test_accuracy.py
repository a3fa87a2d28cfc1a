from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.task import Lengths
from deep_delta.data.synthetic.tasks import TASKS, parse_task
from deep_delta.errors import ConfigError, DataError, NumericsError
from deep_delta.evaluation import accuracy as module
from deep_delta.evaluation.accuracy import Answers, measure_accuracy, score_answers
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config


def model_of(vocab_size: int, max_seq_len: int = 64) -> DdlTransformer:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": vocab_size, "max_seq_len": max_seq_len}
    return DdlTransformer(variant_config("ddl-cc", **sizes))


class Oracle(torch.nn.Module):
    """Knows the answers of its batches, but for the positions where it is told to be wrong."""

    def __init__(self, batches, wrong=()) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.answers = {ids.tobytes(): np.where(targets == IGNORED, 0, targets) for ids, targets in batches}
        self.wrong = wrong
        self.config = model_of(200).config

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        answers = torch.from_numpy(self.answers[ids.numpy().tobytes()]).clone()
        for place in self.wrong:
            answers[place] = (answers[place] + 1) % 200
        return 20.0 * F.one_hot(answers, 200).float()


@pytest.mark.parametrize("name", TASKS)
def test_a_model_that_knows_all_answers_has_them_all_right(name: str):
    task = parse_task(f"synth:{name}")
    batches = [task.examples("test", 0, np.arange(start, start + 5), task.train) for start in (0, 5)]
    found = score_answers(Oracle(batches), batches)
    assert (found.overall, found.last, found.exact) == (1.0, 1.0, 1.0)
    assert found.num_answers == sum(int((targets != IGNORED).sum()) for _, targets in batches)
    assert found.loss < 1e-4
    assert (found.right == found.asked).all()


def test_shares_count_what_is_wrong_where_it_is():
    task = parse_task("synth:parity")
    batch = task.examples("test", 0, np.arange(4), Lengths(10, 10))
    found = score_answers(Oracle([batch], wrong=[(0, 3), (0, 9), (2, 3)]), [batch])
    assert found.overall == pytest.approx(37 / 40)
    assert found.last == pytest.approx(3 / 4)
    assert found.exact == pytest.approx(2 / 4)
    assert found.by_position.tolist() == pytest.approx([1, 1, 1, 0.5, 1, 1, 1, 1, 1, 0.75])
    assert found.loss == pytest.approx(20 * 3 / 40, rel=1e-3)
    summary = found.summary("10")
    assert (summary.overall, summary.last, summary.exact) == (found.overall, found.last, found.exact)
    assert (summary.lengths, summary.num_answers, summary.num_sequences) == ("10", 40, 4)


def test_the_last_answer_is_that_of_each_sequence_and_where_nothing_is_asked_there_is_no_share():
    asked = np.array([[0, 1, 1, 0], [0, 1, 0, 0]], dtype=bool)
    right = np.array([[0, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
    found = Answers(asked, right, loss=1.0)
    assert found.last == 0.5
    assert found.exact == 0.0
    shares = found.by_position.tolist()
    assert shares[1:3] == [0.0, 1.0]
    assert math.isnan(shares[0])
    assert math.isnan(shares[3])


def test_the_loss_is_the_model_s_own():
    task, model = parse_task("synth:recall:pairs=4,keys=8,values=8"), model_of(18)
    ids, targets = task.examples("test", 0, np.arange(6), task.train)
    with torch.no_grad():
        loss = model.loss(torch.from_numpy(ids), torch.from_numpy(targets)).item()
    assert score_answers(model, [(ids, targets)]).loss == pytest.approx(loss, rel=1e-5)


def test_batches_of_unequal_width_are_scored_together():
    task, model = parse_task("synth:copying:train=1-9,test=9"), model_of(19)
    batches = [task.examples("test", 0, np.arange(n, n + 2), task.train) for n in range(0, 20, 2)]
    assert len({ids.shape[1] for ids, _ in batches}) > 1
    found = score_answers(model, batches)
    parts = [score_answers(model, [batch]) for batch in batches]
    assert found.num_answers == sum(part.num_answers for part in parts)
    assert found.right.sum() == sum(part.right.sum() for part in parts)
    assert found.loss == pytest.approx(sum(part.loss * part.num_answers for part in parts) / found.num_answers)


def test_large_vocabularies_are_read_in_parts(monkeypatch: pytest.MonkeyPatch):
    whole = measure_accuracy(model_of(4), "synth:parity", 16, 20)
    monkeypatch.setattr(module, "_LOGITS_AT_ONCE", 16 * 4 * 3)
    parts = measure_accuracy(model_of(4), "synth:parity", 16, 20)
    assert (parts.right == whole.right).all()
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)


def test_measured_examples_are_the_test_examples_of_the_seed():
    model = model_of(4, 64)
    one, again, other = (measure_accuracy(model, "synth:parity", 64, 40, seed) for seed in (0, 0, 1))
    assert one.asked.shape == (40, 64)
    assert (one.right == again.right).all()
    assert (one.right != other.right).any()
    more = measure_accuracy(model, parse_task("synth:parity:train=1,test=1"), 64, 300)
    assert more.right.shape == (300, 64)
    assert (more.right[:40] == one.right).mean() > 0.99


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_and_nothing_is_remembered(training: bool):
    model = model_of(4).train(training)
    model.blocks[0].train(not training)
    generator = torch.get_rng_state()
    measure_accuracy(model, "synth:parity", 8, 4)
    assert (model.training, model.blocks[0].training) == (training, not training)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize(
    ("spec", "length", "num_sequences", "says"),
    [
        ("synth:parity", 0, 8, "length must be at least 1, got 0 tokens"),
        ("synth:parity", 8, 0, "num_sequences must be at least 1, got 0"),
        ("synth:parity", 65, 8, "65 tokens are 65 tokens, and the model holds max_seq_len 64"),
        ("synth:s5", 8, 8, "the model knows 4 tokens and synth:s5:"),
        ("synth:recall:keys=1,values=2", 2, 8, "length must be at least 1 and at most 1, got 2 pairs"),
        ("synth:parity:tests=3", 8, 8, "unknown option 'tests=3'"),
    ],
)
def test_what_cannot_be_measured_is_refused(spec: str, length: int, num_sequences: int, says: str):
    with pytest.raises(ConfigError) as caught:
        measure_accuracy(model_of(4), spec, length, num_sequences)
    assert says in str(caught.value)


def test_nothing_to_evaluate_is_an_error():
    empty = np.zeros((2, 3), dtype=np.int64), np.full((2, 3), IGNORED)
    for batches in ([], [empty]):
        with pytest.raises(DataError, match="nothing to evaluate"):
            score_answers(model_of(4), batches)


def test_a_loss_that_is_not_finite_is_an_error_and_names_the_batch():
    model = model_of(4)
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))
    with pytest.raises(NumericsError, match="evaluation batch 0 is nan"):
        measure_accuracy(model, "synth:parity", 8, 2)
