from __future__ import annotations

import numpy as np
import pytest
import torch

from deep_delta.data.synthetic.tasks import parse_task
from deep_delta.data.tokenizer import byte_tokenizer
from deep_delta.errors import CheckpointError, ConfigError, DataError
from deep_delta.evaluation.accuracy import measure_accuracy
from deep_delta.evaluation.compare import Candidate
from deep_delta.evaluation.compare_answers import WRONG_ANSWERS, AnswersComparison, compare_answers
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config

TASK = parse_task("synth:parity:train=2-6,test=6-16")


def candidate(name: str, seed: int = 0, variant: str = "ddl-cc", tokenizer=None, **fields) -> Candidate:
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 4, "max_seq_len": 16}
    model = DdlTransformer(variant_config(variant, **{**sizes, **fields}))
    return Candidate(name, variant, 4, model, tokenizer or TASK.tokenizer, seq_len=6)


def test_models_are_ranked_by_their_wrong_answers():
    candidates = [candidate(str(seed), seed) for seed in range(3)] + [candidate("plain", 3, "baseline")]
    found = compare_answers(candidates, TASK, num_sequences=32)
    assert found.ranking.measure == WRONG_ANSWERS
    assert "32 examples" in found.ranking.rule
    means = [standing.mean for standing in found.ranking.standings]
    assert means == sorted(means)
    assert [row.name for row in found.rows] == [standing.variant for standing in found.ranking.standings]
    for row, mean in zip(found.rows, means, strict=True):
        assert [one.lengths for one in row.accuracies] == ["2-6", "6", "8", "16"]
        assert all(one.num_sequences == 32 for one in row.accuracies)
        right = sum(one.overall * one.num_answers for one in row.accuracies[1:])
        assert mean == pytest.approx(1 - right / sum(one.num_answers for one in row.accuracies[1:]))
        assert len(row.spectra) == (0 if row.name == "plain" else 2)
    assert found.chance == 0.5
    assert AnswersComparison.from_json(found.to_json(), error=CheckpointError, where="it") == found


def test_what_is_compared_is_what_is_measured():
    one = candidate("one")
    (row,) = compare_answers([one], TASK, num_sequences=20).rows
    assert row.accuracies[-1] == measure_accuracy(one.model, TASK, 16, 20).summary("16")
    assert np.isfinite(row.loss)


@pytest.mark.parametrize(
    ("candidates", "error", "says"),
    [
        (lambda: [], DataError, "nothing to evaluate"),
        (lambda: [candidate("a"), candidate("a")], ConfigError, "a is given twice"),
        (
            lambda: [candidate("a", tokenizer=byte_tokenizer(), vocab_size=257)],
            DataError,
            "a does not know the symbols",
        ),
        (lambda: [candidate("a", max_seq_len=15)], ConfigError, "16 tokens are 16 tokens, and a holds max_seq_len 15"),
    ],
    ids=["none", "twice", "other symbols", "too long"],
)
def test_what_cannot_be_compared_is_refused(candidates, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        compare_answers(candidates(), TASK, num_sequences=4)
