"""What a run says of its held-out text is what `compare` says of the same text, whatever the tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deep_delta.data.corpus import open_corpus
from deep_delta.data.tokens import Dataset, prepare
from deep_delta.evaluation.compare import Candidate, compare
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.comparison import Evaluation
from deep_delta.training.validation import Validation
from tests.data.kinds import KINDS
from tests.training.tiny import tiny_config, tiny_training

TEXTS = {
    "English": b"the old barn and the new door stood by the road. It's late,\n  she said.\n\n",
    "Chinese": "东方红，太阳升，中国出了个毛泽东。\n字 字\t字\n".encode(),
    "mixed, with BOM and CRLF": "\ufeffnaïve café, ﬁne Ａ – 12 o'clock 🙂\r\n\r\nthe old barn; 字字\r\n".encode(),
}


def measured(data: Dataset, model: DdlTransformer, limit: int = 10**6) -> Evaluation:
    training = tiny_training(seq_len=8, batch_size=4, eval_batches=limit)
    return Validation.of(data, training).measure(model, 1)


def model_for(data: Dataset) -> DdlTransformer:
    torch.manual_seed(0)
    model = DdlTransformer(tiny_config(vocab_size=data.tokenizer.vocab_size))
    with torch.no_grad():
        model.embedding.weight.mul_(30)  # far from uniform, so that it matters which tokens are scored
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_bits_per_byte_are_those_that_compare_finds(kind: str, text: str, tmp_path: Path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXTS[text] * 40)
    data = prepare(str(path), fixed=KINDS[kind])
    model = model_for(data)
    found = measured(data, model)
    row = compare([Candidate("it", "ddl-cc", 1, model, data.tokenizer, seq_len=8)], open_corpus(str(path))).rows[0]
    assert found.num_bytes == data.corpus.num_bytes("validation")
    assert (found.tokens, found.loss) == (row.tokens, pytest.approx(row.loss, rel=1e-5))
    assert found.bits_per_byte == pytest.approx(row.bits_per_byte, rel=1e-5)


@pytest.mark.parametrize("kind", ["byte", "bpe", "wordpiece", "unigram"])
def test_ends_of_text_cost_nothing_and_are_no_bytes(kind: str, tmp_path: Path):
    """A model that knows nothing pays the same for every token, so that only what is counted decides."""
    for number in range(40):
        (tmp_path / f"{number}.txt").write_bytes(TEXTS["English"] + TEXTS["Chinese"] + b"%d" % number)
    data = prepare(str(tmp_path), fixed=KINDS[kind])
    model = model_for(data)
    with torch.no_grad():
        model.embedding.weight.zero_()
    found = measured(data, model)
    row = compare([Candidate("it", "ddl-cc", 1, model, data.tokenizer, seq_len=8)], open_corpus(str(tmp_path))).rows[0]
    assert (found.num_bytes, found.tokens) == (data.corpus.num_bytes("validation"), row.tokens)
    assert found.bits_per_byte == pytest.approx(row.bits_per_byte, rel=1e-6)


def test_some_batches_of_a_long_text_are_its_own_bytes_too(tmp_path: Path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXTS["Chinese"] * 400)
    data = prepare(str(path), fixed=KINDS["wordpiece"])
    model = model_for(data)
    some, whole = measured(data, model, limit=3), measured(data, model)
    assert some.tokens == 3 * 4 * 8
    assert some.num_bytes / some.tokens == pytest.approx(whole.num_bytes / whole.tokens, rel=0.1)
