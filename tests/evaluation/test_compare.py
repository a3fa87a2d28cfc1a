from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from deep_delta.data.corpus import Corpus, open_corpus
from deep_delta.data.tokenizer import Tokenizer, byte_tokenizer, symbol_tokenizer, train_bpe
from deep_delta.data.tokens import Dataset
from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation import compare as module
from deep_delta.evaluation.compare import Candidate, Comparison, compare, excerpts, windows
from deep_delta.evaluation.flops import flops_per_token
from deep_delta.evaluation.language_model import IGNORED
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config
from deep_delta.training.config import TrainingConfig
from deep_delta.training.validation import Validation

TEXT = "".join(f"Zeile {n}: süß und grün, {n * n} Bäume.\n" for n in range(200))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("text") / "trees.txt"
    path.write_text(TEXT, encoding="utf-8")
    return open_corpus(str(path))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe([TEXT], 300)


def candidate(name: str, tokenizer: Tokenizer, variant: str = "ddl-cc", seed: int = 0) -> Candidate:
    torch.manual_seed(seed)
    config = variant_config(
        variant, d_model=16, num_layers=1, num_heads=2, vocab_size=tokenizer.vocab_size, max_seq_len=32
    )
    return Candidate(name, variant, 7, DdlTransformer(config), tokenizer, seq_len=24)


def prepare(corpus: Corpus, tokenizer: Tokenizer) -> Dataset:
    """The corpus in memory, held out as `data.tokens.prepare` does."""
    text = "".join(corpus.documents("validation"))
    (ids,), (sizes,) = tokenizer.encode_batch([text]), tokenizer.count_bytes([text])
    validation = np.concatenate([[tokenizer.end_of_text], ids]).astype(tokenizer.dtype)
    return Dataset(corpus, tokenizer, validation, validation, np.concatenate([[0], sizes]).astype(np.uint32))


def uniform(name: str, tokenizer: Tokenizer) -> Candidate:
    """A model that gives every token the same probability."""
    one = candidate(name, tokenizer)
    with torch.no_grad():
        one.model.embedding.weight.zero_()
    return one


def test_models_with_different_tokenizers_are_ranked_by_bits_per_byte(corpus: Corpus, bpe: Tokenizer):
    byte = byte_tokenizer()
    found = compare([uniform("bytes", byte), uniform("pairs", bpe)], corpus, split="train")
    text = "".join(corpus.documents("train"))
    assert found.num_bytes == len(text.encode())
    rows = {row.name: row for row in found.rows}
    assert rows["bytes"].bits_per_byte == pytest.approx(math.log2(byte.vocab_size), rel=1e-5)
    expected = math.log2(bpe.vocab_size) * rows["pairs"].tokens / found.num_bytes
    assert rows["pairs"].bits_per_byte == pytest.approx(expected, rel=1e-5)
    assert rows["pairs"].tokens < rows["bytes"].tokens == found.num_bytes
    assert [row.name for row in found.rows] == ["pairs", "bytes"]
    assert rows["pairs"].loss > rows["bytes"].loss  # which is why the loss per token ranks nothing here
    assert found.ranking.standings[0].mean == pytest.approx(rows["pairs"].bits_per_byte)


def test_a_piece_of_which_a_tokenizer_makes_nothing_costs_nothing(tmp_path: Path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(f"{json.dumps({'text': text})}\n" for text in (" \n", "0 1 1 0", "   ", "1 0 1")))
    words = symbol_tokenizer(["0", "1"])
    row = compare([uniform("words", words)], open_corpus(str(texts)), split="all").rows[0]
    assert row.tokens == 7
    assert row.bits_per_byte == pytest.approx(7 * math.log2(words.vocab_size) / 17, rel=1e-5)
    texts.write_text('{"text": "  "}\n{"text": "\\n"}\n')
    with pytest.raises(DataError, match="tokenizer wordlevel-4 of words makes no token of it"):
        compare([uniform("words", words)], open_corpus(str(texts)), split="all")


def test_a_row_says_what_the_model_is(corpus: Corpus):
    one = candidate("mine", byte_tokenizer())
    row = compare([one], corpus).rows[0]
    assert (row.name, row.variant, row.step, row.tokenizer) == ("mine", "ddl-cc", 7, "byte")
    assert row.parameters == one.model.num_parameters()
    assert row.flops_per_token == flops_per_token(one.model.config, 24).forward
    assert row.perplexity == pytest.approx(math.exp(row.loss))
    assert [(spectrum["layer"], spectrum["sublayer"]) for spectrum in row.spectra] == [(0, "mixer"), (0, "mlp")]


def test_the_loss_is_that_of_reading_the_text_window_by_window(corpus: Corpus):
    one = candidate("mine", byte_tokenizer())
    row = compare([one], corpus).rows[0]
    ids = [256, *"".join(corpus.documents("validation")).encode()]
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, 24):
            window = torch.tensor(ids[start : start + 25])
            logits = one.model(window[None, :-1])
            nats += torch.nn.functional.cross_entropy(logits[0], window[1:], reduction="sum").item()
    assert row.tokens == len(ids) - 1
    assert row.loss == pytest.approx(nats / row.tokens, rel=1e-5)


def test_equal_models_are_not_resolved_and_unequal_ones_are(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "EXCERPT", 200)
    byte = byte_tokenizer()
    sure = candidate("sure", byte, seed=1)
    with torch.no_grad():
        sure.model.embedding.weight.mul_(30)
    found = compare([candidate("one", byte), candidate("same", byte), sure], corpus, split="train")
    unresolved = {standing.variant: standing.not_resolved_from for standing in found.ranking.standings}
    assert unresolved == {"one": ("same",), "same": ("one",), "sure": ()}


def test_the_additive_baseline_is_compared_without_spectra(corpus: Corpus):
    assert compare([candidate("base", byte_tokenizer(), "baseline")], corpus).rows[0].spectra == ()


def test_a_text_shorter_than_a_window_is_enough(tmp_path: Path):
    path = tmp_path / "short.txt"
    path.write_text("ab")
    row = compare([candidate("mine", byte_tokenizer())], open_corpus(str(path)), split="train").rows[0]
    assert row.tokens == 2
    assert row.spectra[0]["tokens"] == 2


def test_candidates_are_taken_one_at_a_time(corpus: Corpus):
    alive: list[str] = []

    def load() -> Iterator[Candidate]:
        for name in ("a", "b"):
            alive.append(name)
            yield candidate(name, byte_tokenizer())
            assert alive.pop() == name

    assert len(compare(load(), corpus).rows) == 2


def test_it_can_be_saved_and_read_back(corpus: Corpus):
    found = compare([candidate("mine", byte_tokenizer())], corpus)
    assert Comparison.from_json(found.to_json(), error=DataError, where="it") == found


def test_nothing_to_evaluate_is_an_error(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="nothing to evaluate: no checkpoint"):
        compare([], corpus)
    monkeypatch.setattr(Corpus, "pieces", lambda self, split: iter(()))
    with pytest.raises(DataError, match=r"nothing to evaluate: .*trees.txt has no text in its validation split"):
        compare([candidate("mine", byte_tokenizer())], corpus)


def test_the_same_name_twice_is_refused(corpus: Corpus):
    with pytest.raises(ConfigError, match="mine is given twice"):
        compare([candidate("mine", byte_tokenizer()), candidate("mine", byte_tokenizer())], corpus)


def test_excerpts_are_spread_over_the_text_and_about_as_much_as_asked(corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "EXCERPT", 100)
    text = "".join(corpus.documents("train"))
    chosen = [one.text for one in excerpts(corpus, "train", max_bytes=len(text.encode()) // 3 + 1)]
    assert sum(len(one.encode()) for one in chosen) <= 1.2 * len(text.encode()) / 3
    assert chosen == [text[start : start + 100] for start in range(0, len(text), 300)]
    assert "".join(one.text for one in excerpts(corpus, "train", max_bytes=1 << 30)) == text


def test_windows_run_on_through_a_document_and_one_begins_after_an_end_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "EXCERPT", 50)  # two windows and a bit
    lines = ["a" * 30 + "bcd" * 22, "Bäume " * 20]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    corpus = open_corpus(str(path))
    one = candidate("mine", byte_tokenizer())
    with torch.no_grad():
        one.model.embedding.weight.mul_(30)
    row = compare([one], corpus, split="all").rows[0]
    nats, count = 0.0, 0
    for text in (text for each in ("train", "validation") for text in corpus.documents(each)):
        ids = [256, *text.encode()]
        for first in range(0, len(ids) - 1, 24):
            window = torch.tensor(ids[first : first + 25])
            with torch.no_grad():
                logits = one.model(window[None, :-1])
            nats += torch.nn.functional.cross_entropy(logits[0], window[1:], reduction="sum").item()
            count += len(window) - 1
    assert (row.tokens, row.loss) == (count, pytest.approx(nats / count, rel=1e-5))


def test_a_long_document_s_bits_per_byte_are_those_of_training(
    corpus: Corpus, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    """Wherever excerpts end, in the middle of words too; also with tokenizers that put a blank before a text."""
    monkeypatch.setattr(module, "EXCERPT", 7)
    spaced = json.loads(bpe.to_json())
    spaced["pre_tokenizer"]["add_prefix_space"] = True
    for tokenizer in (bpe, Tokenizer.from_json(json.dumps(spaced), where="spaced")):
        one = candidate("one", tokenizer)
        data = prepare(corpus, tokenizer)
        training = TrainingConfig(batch_size=2, seq_len=one.seq_len, eval_batches=1000)
        expected = Validation.of(data, training).measure(one.model, step=1)
        row = compare([one], corpus).rows[0]
        assert (row.tokens, row.bits_per_byte) == (expected.tokens, pytest.approx(expected.bits_per_byte, rel=1e-6))


def test_an_excerpt_of_a_sampled_text_has_the_tokens_that_it_has_in_the_whole(
    corpus: Corpus, bpe: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "EXCERPT", 101)
    text = "".join(corpus.documents("train"))
    (sizes,) = bpe.count_bytes([text])
    ends, expected = np.cumsum(sizes), 0
    for start in range(0, len(text), 303):
        low, high = (len(text[:at].encode()) for at in (start, start + 101))
        expected += int(((low < ends) & (ends <= high)).sum())
    row = compare([uniform("one", bpe)], corpus, split="train", max_bytes=len(text.encode()) // 3 + 1).rows[0]
    assert row.tokens == expected


@pytest.mark.parametrize("length", [1, 4, 5, 8, 9])
def test_windows_make_every_token_a_target_once(length: int):
    ids = list(range(100, 100 + length))
    inputs, targets = windows(ids, 4, start=7)
    assert inputs.shape == targets.shape == (math.ceil(length / 4), 4)
    scored = targets.reshape(-1) != IGNORED
    assert targets.reshape(-1)[scored].tolist() == ids
    assert inputs.reshape(-1)[scored].tolist() == [7, *ids[:-1]]
    assert np.array_equal(scored, np.arange(scored.size) < length)
