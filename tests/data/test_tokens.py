from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from deep_delta.data import corpus as corpus_module
from deep_delta.data import tokens as tokens_module
from deep_delta.data.corpus import SPLITS, open_corpus
from deep_delta.data.tokenizer import Tokenizer, byte_tokenizer, train_bpe
from deep_delta.data.tokens import prepare, tokenize
from deep_delta.errors import ConfigError, DataError, StorageError
from tests.data.kinds import KINDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    root.mkdir()
    for number in range(40):
        (root / f"{number:02}.txt").write_text(f"text {number}\n" + "the delta rule, again and again. " * (number + 3))
    return root


def _joined(corpus, split, tokenizer) -> list[int]:
    ids: list[int] = []
    for document in corpus.documents(split):
        ids += [tokenizer.end_of_text, *tokenizer.encode(document)]
    return ids


@pytest.mark.parametrize("kind", ["byte", "bpe:300"])
def test_tokens_are_the_documents_each_after_an_end_of_text(folder, kind):
    data = prepare(str(folder), kind)
    for split in SPLITS:
        assert data.tokens(split).tolist() == _joined(data.corpus, split, data.tokenizer)
    assert data.train.dtype == np.uint16
    assert isinstance(data.train, np.memmap)
    assert not data.train.flags.writeable
    assert data.validation_bytes.sum() == data.corpus.num_bytes("validation")
    assert (data.validation_bytes[data.validation == data.tokenizer.end_of_text] == 0).all()


def test_one_document_begins_with_an_end_of_text_too(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abcd" * 100)
    data = prepare(str(path), "byte")
    assert data.train[0] == data.validation[0] == 256
    assert bytes(data.train[1:].tolist()) + bytes(data.validation[1:].tolist()) == b"abcd" * 100


def test_bytes_of_pieces_without_tokens_count_with_the_next_token(tmp_path, monkeypatch):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("the old", " \n ", "barn ", "  ")))
    monkeypatch.setattr(corpus_module.Split, "of", lambda num_bytes: corpus_module.Split(frozenset(range(4096))))
    corpus, words = open_corpus(str(path)), KINDS["wordpiece"]
    end = words.end_of_text
    assert tokenize(corpus, words, "validation").tokens.tolist() == [
        end,
        *words.encode("the old"),
        end,
        end,
        *words.encode("barn"),
        end,
    ]
    assert tokens_module._token_bytes(corpus, words, "validation").tolist() == [0, 3, 4, 0, 0, 8, 0]


def test_a_batch_begins_where_documents_begin_now_and_then(folder):
    data = prepare(str(folder), "byte")
    end, batches = data.tokenizer.end_of_text, data.training_batches(batch_size=4, seq_len=8, seed=0)
    first = [batches.batch(index)[0] for index in range(0, 320, 8)]
    assert all(ids[0, 0] == end for ids in first)
    assert len({bytes(ids[0, 1:].tolist()) for ids in first}) > 10


def test_a_book_s_only_beginning_is_trained_on(tmp_path):
    (tmp_path / "book.txt").write_text("".join(f"Line {number} of the book.\n" for number in range(5000)))
    data = prepare(str(tmp_path / "book.txt"), "byte")
    batches = data.training_batches(batch_size=4, seq_len=32, seed=0)
    beginnings = [ids for index in range(160) for ids in batches.batch(index)[0] if data.tokenizer.end_of_text in ids]
    assert len(beginnings) >= 20
    assert all(ids.tolist() == data.train[:32].tolist() for ids in beginnings)


def test_batches_do_not_change_the_tokens(folder, monkeypatch):
    expected = prepare(str(folder), "byte").train.tolist()
    monkeypatch.setattr(tokens_module, "_BATCH", 100)
    monkeypatch.setattr(tokens_module, "_FORMAT", "another")
    assert prepare(str(folder), "byte").train.tolist() == expected


def test_the_bpe_is_trained_on_the_train_split_alone_and_kept(folder, monkeypatch):
    data = prepare(str(folder), "bpe:300")
    assert data.tokenizer.sha256 == train_bpe(data.corpus.documents("train"), 300).sha256
    monkeypatch.setattr(tokens_module, "train_bpe", None)
    again = prepare(str(folder), "bpe:300")
    assert (again.sha256, again.tokenizer.name) == (data.sha256, data.tokenizer.name)
    assert (again.train == data.train).all()


def test_the_default_sizes():
    assert tokens_module.BPE_VOCABULARY == 4096


def test_a_tokenizer_file_or_a_fixed_one_serves(folder, tmp_path):
    trained = prepare(str(folder), "bpe:290").tokenizer
    trained.save(tmp_path / "mine.json")
    from_file = prepare(str(folder), str(tmp_path / "mine.json"))
    fixed = prepare(str(folder), "bpe:5", fixed=trained)
    assert from_file.tokenizer.sha256 == fixed.tokenizer.sha256 == trained.sha256
    assert (from_file.train == fixed.train).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bpe:", "needs a whole number"),
        ("bpe:x", "needs a whole number"),
        ("bpe:-5", "needs a whole number"),
        ("bpe:1e3", "needs a whole number"),
        ("bpe:٣٠٠", "needs a whole number"),
        ("bpe:256", "257 to 16,777,216"),
        ("bpe:" + "9" * 9999, "257 to 16,777,216"),
        ("bytes", "must be byte, bpe, bpe:SIZE or the path"),
        ("", "must be byte, bpe, bpe:SIZE or the path"),
        ("gone.json", "must be byte, bpe, bpe:SIZE or the path"),
    ],
    ids=lambda value: value[:12],
)
def test_a_tokenizer_that_is_none_is_refused_before_the_corpus_is_read(spec, message):
    with pytest.raises(ConfigError, match=message):
        prepare("there is no such corpus", spec)


def test_more_than_sixteen_bits_of_vocabulary(tmp_path):
    vocabulary = {f"w{number}": number for number in range(70_000)} | {"</s>": 70_000}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "a.txt").write_text("w65535 w65536 w69999 " * 20)
    data = prepare(str(tmp_path / "a.txt"), fixed=Tokenizer(backend))
    assert data.train.dtype == np.uint32
    assert data.train[:5].tolist() == [70_000, 65535, 65536, 69999, 65535]


@pytest.mark.parametrize(("text", "count"), [("x", 1), ("ä", 2)])
def test_one_token_is_too_little(tmp_path, text, count):
    path = tmp_path / "a.txt"
    path.write_text(text)
    if count == 1:
        with pytest.raises(DataError, match=r"a\.txt has 1 token to train on; a sequence needs at least 2"):
            prepare(str(path), "byte")
    else:
        data = prepare(str(path), "byte")
        assert data.train.tolist() == [256, *text.encode()]
        assert data.validation is None
        assert data.facts().validation.bytes_per_token is None


@pytest.mark.parametrize("content", [b"", b"text\xff", b"\0\0"], ids=["empty", "bad bytes", "binary"])
def test_a_bad_corpus_leaves_nothing_in_the_cache(tmp_path, cache, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError):
        prepare(str(tmp_path / "a.txt"), "bpe")
    assert list(cache.iterdir()) == []


def test_a_corpus_that_grows_while_it_is_tokenized_leaves_nothing(tmp_path, cache):
    path = tmp_path / "a.txt"
    path.write_text("text " * 100)
    corpus = open_corpus(str(path))
    path.write_text("text " * 101)
    with pytest.raises(DataError, match="changed while it was read"):
        tokenize(corpus, byte_tokenizer(), "train")
    assert list(cache.iterdir()) == []


def test_a_damaged_cache_is_never_used(folder, cache):
    data = prepare(str(folder), "bpe:300")
    expected = {split: data.tokens(split).tolist() for split in SPLITS}
    files = [path for path in cache.iterdir() if path.suffix != ".json"]
    assert len(files) == 4
    for path in files:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)
    again = prepare(str(folder), "bpe:300")
    assert again.tokenizer.sha256 == data.tokenizer.sha256
    assert {split: again.tokens(split).tolist() for split in SPLITS} == expected
    assert (again.validation_bytes == data.validation_bytes).all()


def test_a_cache_that_cannot_be_written_names_the_remedy(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DEEP_DELTA_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="DEEP_DELTA_CACHE"):
        prepare(str(folder), "byte")


def test_processes_that_prepare_at_once_agree(folder, cache):
    script = (
        "import sys, hashlib; from deep_delta.data.tokens import prepare; data = prepare(sys.argv[1], 'bpe:400')\n"
        "print(data.sha256, hashlib.sha256(data.train.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", script, str(folder)]
    running = [subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    data = prepare(str(folder), "bpe:400")
    assert answers == {f"{data.sha256} {hashlib.sha256(data.train.tobytes()).hexdigest()}\n"}
    assert not [path for path in cache.iterdir() if path.name.startswith(".tmp-")]


def test_facts_and_a_sample(folder):
    data = prepare(str(folder), "byte")
    facts = data.facts()
    assert facts.corpus == "texts"
    assert facts.train.documents + facts.validation.documents == 40
    assert facts.train.tokens == len(data.train)
    assert facts.train.bytes_per_token == pytest.approx(1, abs=0.01)
    assert (facts.sha256, facts.tokenizer, facts.vocab_size) == (data.sha256, "byte", 257)
    assert "".join(data.sample(num_tokens=6)) == "text 0"
    assert data.sample(start=0, num_tokens=3) == ["", "t", "e"]
    assert data.sample("validation", start=5, num_tokens=0) == []


def test_a_sample_of_bytes_shows_whole_characters(tmp_path):
    (tmp_path / "a.txt").write_text("é字" * 50)
    assert prepare(str(tmp_path / "a.txt"), "byte").sample(num_tokens=5) == ["", "é", "", "", "字"]


def test_a_sample_keeps_the_blank_before_its_first_word(tmp_path):
    (tmp_path / "a.txt").write_text("the old barn and the new door " * 50)
    data = prepare(str(tmp_path / "a.txt"), fixed=KINDS["wordpiece"])
    assert data.sample(start=2, num_tokens=3) == [" old", " barn", " and"]


def test_the_hash_follows_corpus_and_tokenizer(folder, tmp_path):
    (tmp_path / "other.txt").write_text("other text " * 40)
    hashes = {prepare(str(folder), kind).sha256 for kind in ("byte", "bpe:260", "bpe:270")}
    hashes.add(prepare(str(tmp_path / "other.txt"), "byte").sha256)
    assert len(hashes) == 4


def test_torch_is_not_needed():
    script = "import sys, deep_delta.data.tokens, deep_delta.data.loader; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
