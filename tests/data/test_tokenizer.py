from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from deep_delta.data import tokenizer as tokenizer_module
from deep_delta.data.tokenizer import MAX_VOCABULARY, Tokenizer, byte_tokenizer, symbol_tokenizer, train_bpe
from deep_delta.errors import ConfigError, DataError, StorageError
from tests.data.kinds import KINDS, LINES

TEXT = "the delta rule over depth and the delta rule over time\n    def rule(x):\n        return x\n" * 30
unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_bpe([TEXT], 400)


def _saved(tmp_path: Path, backend: tokenizers.Tokenizer) -> Path:
    path = tmp_path / "tokenizer.json"
    backend.save(str(path))
    return path


def _words(count: int) -> tokenizers.Tokenizer:
    """A vocabulary of `count` words, of which the last is the end of text."""
    vocabulary = {f"w{number}": number for number in range(count - 1)} | {"</s>": count - 1}
    backend = tokenizers.Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend


def test_bytes_are_their_own_ids():
    tokenizer = byte_tokenizer()
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.end_of_text) == ("byte", 257, 256)
    assert tokenizer.encode("aé\n\0") == [97, 0xC3, 0xA9, 10, 0]
    assert tokenizer.dtype == np.uint16


def test_the_fast_path_for_bytes_is_what_the_library_computes():
    tokenizer, text = byte_tokenizer(), TEXT + "äöü字🙂\u0300\t\r\n  x"
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert tokenizer.encode(text) == library.encode(text).ids == tokenizer.encode_batch([text])[0].tolist()
    assert library.decode(tokenizer.encode(text)) == text


@given(text=unicode_text)
@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_every_text_comes_back(kind, text, bpe):
    tokenizer = byte_tokenizer() if kind == "byte" else bpe
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert [array.tolist() for array in tokenizer.encode_batch([text, "x"])] == [ids, tokenizer.encode("x")]
    assert tokenizer.end_of_text not in ids


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_text_that_spells_the_end_of_text_is_text(kind, bpe):
    tokenizer = byte_tokenizer() if kind == "byte" else bpe
    text = "a<|endoftext|>b"
    assert tokenizer.end_of_text not in tokenizer.encode(text)
    assert tokenizer.end_of_text not in tokenizer.encode_batch([text])[0]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode([tokenizer.end_of_text]) == ""


def test_half_a_surrogate_pair_is_an_error(bpe):
    for tokenizer in (byte_tokenizer(), bpe):
        with pytest.raises(DataError, match=r"not Unicode at character 2: '\\udc80'"):
            tokenizer.encode("ab\udc80")


def test_bpe_merges_what_repeats_and_keeps_to_its_size(bpe):
    assert len(bpe.encode(TEXT)) < len(TEXT) / 4
    assert bpe.vocab_size <= 400
    assert bpe.name == f"bpe-{bpe.vocab_size}"
    assert bpe.end_of_text == bpe.vocab_size - 1
    assert train_bpe(["abab" * 5], 257).vocab_size == 257
    assert train_bpe(["nothing"], 4096).vocab_size == 257


@pytest.mark.parametrize("vocab_size", [-1, 0, 256, MAX_VOCABULARY + 1])
def test_a_size_that_cannot_be_trained_is_an_error(vocab_size):
    with pytest.raises(ConfigError, match=rf"257 to 16,777,216 tokens, got bpe:{vocab_size}"):
        train_bpe([TEXT], vocab_size)


def test_bpe_reads_no_more_than_it_says(monkeypatch):
    monkeypatch.setattr(tokenizer_module, "TRAINING_BYTES", 5000)
    read = []

    def texts():
        for text in ("ä" * 1000, "b c " * 1000, "never " * 1000):
            read.append(text[0])
            yield text

    first = train_bpe(texts(), 300)
    assert read == ["ä", "b", "never"[0]]
    assert train_bpe(["ä" * 1000, "b c " * 750], 300).sha256 == first.sha256


@pytest.mark.parametrize("text", ["ab" * 300_000, " " * 300_000, "a" * 300_000 + " b"], ids=["word", "blanks", "mixed"])
def test_text_without_a_break_trains_and_comes_back(text):
    tokenizer = train_bpe([text], 300)
    assert tokenizer.vocab_size > 257
    assert tokenizer.decode(tokenizer.encode(text[:100_000])) == text[:100_000]


def test_training_is_the_same_on_any_number_of_threads():
    script = (
        "import random; from deep_delta.data.tokenizer import train_bpe; draw = random.Random(1)\n"
        "words = [''.join(draw.choices('abcdefgh', k=draw.randint(1, 7))) for _ in range(3000)]\n"
        "texts = [' '.join(draw.choices(words, k=50)) for _ in range(400)]\n"
        "print(train_bpe(texts, 1200).sha256)"
    )
    hashes = set()
    for threads in ("1", "2", "5"):
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", script]
        hashes.add(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)
    assert len(hashes) == 1


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_a_saved_tokenizer_is_the_same(kind, bpe, tmp_path):
    tokenizer = byte_tokenizer() if kind == "byte" else bpe
    tokenizer.save(tmp_path / "t.json")
    loaded = Tokenizer.load(tmp_path / "t.json")
    for name in ("name", "sha256", "vocab_size", "end_of_text", "dtype"):
        assert getattr(loaded, name) == getattr(tokenizer, name)
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert loaded.encode("<|endoftext|>") == tokenizer.encode("<|endoftext|>")


def test_a_tokenizer_that_cannot_be_saved_is_one_line(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*gone/t\.json: No such file"):
        byte_tokenizer().save(tmp_path / "gone" / "t.json")


def test_padding_truncation_and_added_tokens_of_a_file_do_not_count(tmp_path):
    backend = _words(50)
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 49)])
    tokenizer = Tokenizer.load(_saved(tmp_path, backend))
    assert tokenizer.encode("w1 w2 w3 w4 w5 w6 w7 w8 w9") == list(range(1, 10))
    assert tokenizer.encode_batch(["w1 w2", "w3"])[1].tolist() == [3]


@pytest.mark.parametrize(("size", "dtype"), [(65536, np.uint16), (65537, np.uint32), (70000, np.uint32)])
def test_ids_never_wrap_in_sixteen_bits(size, dtype):
    tokenizer = Tokenizer(_words(size))
    assert (tokenizer.vocab_size, tokenizer.dtype, tokenizer.name) == (size, dtype, f"wordlevel-{size}")
    assert tokenizer.encode_batch([f"w{size - 2} w1"])[0].tolist() == [size - 2, 1]


@pytest.mark.parametrize("name", KINDS)
@given(
    text=unicode_text
    | st.sampled_from([line * 3 for line in LINES])
    | st.text("the old barn.\n\r 东方é🙂", max_size=40)
)
def test_bytes_are_those_of_the_text_and_not_of_what_its_tokens_decode_to(name, text):
    counts, ids = KINDS[name].count_bytes([text, "x"])[0], KINDS[name].encode(text)
    assert (counts.dtype, len(counts)) == (np.uint32, len(ids))
    assert counts.sum() == (len(text.encode()) if ids else 0)


def test_a_token_has_the_bytes_up_to_its_end():
    counts = {
        name: KINDS[name].count_bytes(["the old  barn "])[0].tolist() for name in ("byte", "wordpiece", "suffixes")
    }
    assert counts == {"byte": [1] * 14, "wordpiece": [3, 4, 7], "suffixes": [3, 4, 7]}
    assert KINDS["wordpiece"].count_bytes(["东方"])[0].tolist() == [3, 3]
    assert KINDS["bpe"].count_bytes(["Ж"])[0].tolist() == [2, 0]


def test_a_wordpiece_vocabulary():
    vocabulary = {"[UNK]": 0, "[SEP]": 1, "the": 2, "##s": 3}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    tokenizer = Tokenizer(backend)
    assert tokenizer.encode("The thes") == [2, 2, 3]
    assert tokenizer.decode([2, 2, 3, 1]) == "the thes"


def test_holes_in_a_vocabulary_stand_for_nothing():
    backend = tokenizers.Tokenizer(models.WordLevel(vocab={"a": 0, "</s>": 9}, unk_token="a"))
    tokenizer = Tokenizer(backend)
    assert tokenizer.vocab_size == 10
    assert tokenizer.decode([0, 4, 0]) == "a a"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"not json",
        b'{"model": 3}',
        b"\xff\xfe",
        b"[" * 10000,
        b'{"version": "1.0", "model": {"type": "X"}}',
    ],
    ids=["empty", "no model", "text", "model", "bytes", "nested", "unknown model"],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer .*tokenizer\.json") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_file_that_is_missing_or_lacks_an_end_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read tokenizer .*gone\.json: No such file"):
        Tokenizer.load(tmp_path / "gone.json")
    path = _saved(tmp_path, tokenizers.Tokenizer(models.WordLevel(vocab={"a": 0}, unk_token="a")))
    with pytest.raises(DataError, match=r"tokenizer\.json has no end-of-text token; add one of <\|endoftext\|>"):
        Tokenizer.load(path)


def test_damage_anywhere_in_a_tokenizer_file_is_an_error_or_another_hash(bpe, tmp_path):
    content, path = bpe.to_json().encode(), tmp_path / "tokenizer.json"
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        damage = bytearray(content)
        damage[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damage)
        try:
            damaged = Tokenizer.load(path)
        except DataError:
            refused += 1
        else:
            assert damaged.sha256 != bpe.sha256 or damaged.to_json() == bpe.to_json()
    assert refused > 100


def test_the_hash_is_of_the_content_not_its_layout(bpe):
    content = json.loads(bpe.to_json())
    other_order = json.dumps(dict(reversed(content.items())))
    assert Tokenizer.from_json(other_order, where="a test").sha256 == bpe.sha256
    assert len(bpe.sha256) == hashlib.sha256().digest_size * 2


def test_symbols_are_words_between_blanks(tmp_path: Path):
    made = symbol_tokenizer(["0", "1", "(", "k12", "·"])
    assert (made.vocab_size, made.end_of_text, made.name) == (7, 5, "wordlevel-7")
    assert made.encode(" ( 1 k12\n0 ·") == [2, 1, 3, 0, 4]
    assert made.decode([2, 1, 3, 5, 0, 6]) == " ( 1 k12 0"
    made.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.sha256, loaded.encode("1 0")) == (made.sha256, [1, 0])
    stream = loaded.stream()
    assert [stream.push(index) for index in (1, 0, 3)] == [" 1", " 0", " k12"]


@pytest.mark.parametrize("text", ["2", "0 1 x", "01", "<pad>", "<|endoftext|>"])
def test_a_word_that_is_no_symbol_is_a_data_error(text: str):
    made = symbol_tokenizer(["0", "1"])
    for encode in (made.encode, lambda text: made.encode_batch([text])):
        with pytest.raises(DataError, match=r"tokenizer wordlevel-4 cannot encode .* unknown symbol"):
            encode(text)
