from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deep_delta.data.batches import IGNORED
from deep_delta.data.opening import open_data
from deep_delta.data.synthetic.task_data import TaskData
from deep_delta.data.tokenizer import train_bpe
from deep_delta.data.tokens import Dataset
from deep_delta.errors import ConfigError, DataError


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"Line {number} of a text.\n" for number in range(200)))
    return str(path)


def test_a_task_or_a_text(text: str):
    assert isinstance(open_data("synth:parity"), TaskData)
    assert isinstance(open_data(text), Dataset)
    assert open_data(text).tokenizer.name == "byte"
    assert open_data(text, "bpe:260").tokenizer.name == "bpe-260"
    fixed = train_bpe(["a text of its own"], 258)
    assert open_data(text, fixed=fixed).tokenizer.sha256 == fixed.sha256
    with pytest.raises(ConfigError, match="unknown task"):
        open_data("synth:unknown")


def test_both_kinds_give_what_training_needs(text: str):
    for data in (open_data("synth:parity:train=3-8,test=8-16"), open_data(text)):
        ids, targets = data.training_batches(batch_size=3, seq_len=8, seed=0).batch(2)
        held_out = data.held_out(batch_size=3, seq_len=8, seed=0, limit=2)
        for one, asked in ((ids, targets), *held_out.batches):
            assert one.dtype == asked.dtype == np.int64
            assert one.shape == asked.shape
            assert one.max() < data.tokenizer.vocab_size
            assert (asked != IGNORED).any()
        assert len(held_out.batches) == 2
        assert held_out.probe.ndim == 2
        assert data.identity.tokenizer_sha256 == data.tokenizer.sha256
        assert data.context(8) in (8, 16)


def test_a_text_that_is_too_short_is_refused_where_it_is_used(text: str):
    data = open_data(text)
    with pytest.raises(DataError, match="needs 10001"):
        data.training_batches(batch_size=1, seq_len=10_000, seed=0)
    with pytest.raises(DataError, match="the validation text has"):
        data.held_out(batch_size=1, seq_len=1000, seed=0, limit=1)
