from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from deep_delta.data.tokenizer import Tokenizer, byte_tokenizer, train_bpe
from tests.data.kinds import OF_WORDS

BYTES = byte_tokenizer()
BPE = train_bpe(["naïve café 字字字 🙂🙂 and the rest of it " * 20], 300)


def _metaspace() -> Tokenizer:
    pieces = ["<unk>", "</s>", "▁", "▁the", "▁cat", "s", "▁sat", "a"]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *(f"<0x{byte:02X}>" for byte in range(256))])}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["</s>"])
    return Tokenizer(backend)


METASPACE = _metaspace()


@given(st.text(st.characters(exclude_categories=["Cs"])))
@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["byte", "bpe"])
def test_streamed_text_is_the_text_and_never_half_a_character(tokenizer, text):
    stream = tokenizer.stream()
    shown = [stream.push(index) for index in tokenizer.encode(text)]
    assert "".join(shown) == text
    assert stream.flush() == ""
    if tokenizer is BYTES:
        assert all(len(piece) <= 1 for piece in shown)


@given(st.lists(st.integers(-3, 270)))
@pytest.mark.parametrize("tokenizer", [BYTES, BPE, METASPACE], ids=["byte", "bpe", "metaspace"])
def test_any_ids_decode_to_some_text(tokenizer, ids):
    stream = tokenizer.stream()
    text = "".join([*map(stream.push, ids), stream.flush()])
    assert text == tokenizer.decode(ids)
    assert stream.flush() == ""


@given(st.binary())
def test_bytes_that_are_no_text_show_as_python_shows_them(content):
    assert BYTES.decode(content) == content.decode(errors="replace")


def test_a_character_appears_with_its_last_byte():
    stream = BYTES.stream()
    assert [stream.push(byte) for byte in "a字b".encode()] == ["a", "", "", "字", "b"]
    assert (stream.push(0xE5), stream.flush(), stream.push(97)) == ("", "\ufffd", "a")
    assert (stream.push(0xE5), stream.push(256), stream.push(0xAD), stream.push(0x97)) == ("", "", "", "字")
    assert stream.push(9999) == "\ufffd"


def test_words_of_a_sentencepiece_vocabulary_keep_their_blanks():
    ids = [METASPACE._backend.token_to_id(token) for token in ("▁the", "▁cat", "s", "▁sat")]
    stream = METASPACE.stream()
    assert [stream.push(index) for index in ids] == ["the", " cat", "s", " sat"]
    assert METASPACE.decode(ids) == METASPACE._backend.decode(ids) == "the cats sat"


def test_bytes_of_a_sentencepiece_vocabulary_make_a_character():
    ids = [METASPACE._backend.token_to_id(f"<0x{byte:02X}>") for byte in "字".encode()]
    stream = METASPACE.stream()
    assert [stream.push(index) for index in ids] == ["", "", "字"]
    stream = METASPACE.stream()
    assert [stream.push(ids[0]), stream.flush()] == ["", "\ufffd"]


@given(st.data())
@pytest.mark.parametrize("kind", OF_WORDS)
def test_streamed_tokens_are_what_the_library_decodes_at_once(kind, data):
    tokenizer = OF_WORDS[kind]
    known = 10 if kind == "sentencepiece" else tokenizer.vocab_size  # without bytes that are no text
    ids = data.draw(st.lists(st.integers(0, known - 1), max_size=12))
    assert tokenizer.decode(ids) == tokenizer._backend.decode(ids)


def test_a_stray_byte_leaves_the_text_before_it_alone():
    tokenizer = OF_WORDS["sentencepiece"]
    ids = [tokenizer._backend.token_to_id(f"<0x{byte:02X}>") for byte in "字".encode()]
    stray, word = ids[0], tokenizer._backend.token_to_id("▁barn")
    assert tokenizer.decode([*ids, stray]) == "字\ufffd"
    assert tokenizer.decode([*ids, stray, word]) == "字\ufffd barn"
