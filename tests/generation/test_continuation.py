"""The text after a prompt, for every kind of tokenizer: what is shown is what the tokens add to those of the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from deep_delta.data.synthetic.tasks import parse_task
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.generation import engine
from deep_delta.generation.engine import generate, generate_batch
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config
from tests.data.kinds import KINDS, OF_WORDS

NEXT_WORDS = ["barn", "and", "the", "new", "door"]


def model_of(tokenizer: Tokenizer) -> DdlTransformer:
    sizes = {"d_model": 8, "num_layers": 1, "num_heads": 1, "max_seq_len": 64}
    return DdlTransformer(variant_config("ddl", vocab_size=tokenizer.vocab_size, **sizes)).eval()


class Scripts:
    """In place of `draw`: each row's tokens are known beforehand. Rows are told apart by their generators."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *scripts: Sequence[int]) -> None:
        self._scripts = [iter(script) for script in scripts]
        self._rows: dict[int, int] = {}
        monkeypatch.setattr(engine, "draw", self._draw)

    def _draw(self, logits: torch.Tensor, sampling: object, generator: torch.Generator, seen: object) -> int:
        row = self._rows.setdefault(id(generator), len(self._rows))
        return next(self._scripts[row])


def following(tokenizer: Tokenizer, prompt: str, words: Sequence[str]) -> list[int]:
    """The tokens that the tokenizer itself gives the words after this prompt."""
    whole = tokenizer.encode(f"{prompt} {' '.join(words)}")
    assert whole[: len(tokenizer.encode(prompt))] == tokenizer.encode(prompt)
    return whole[len(tokenizer.encode(prompt)) :]


def written(
    monkeypatch: pytest.MonkeyPatch, kind: str, prompt: str, tokens: Sequence[int], stop: Sequence[str] = ()
) -> list[str]:
    Scripts(monkeypatch, tokens)
    tokenizer = KINDS[kind]
    return list(generate(model_of(tokenizer), tokenizer, prompt, max_new_tokens=len(tokens), stop=stop))


@pytest.mark.parametrize("kind", KINDS)
def test_the_blank_before_the_first_word_stays(kind: str, monkeypatch: pytest.MonkeyPatch):
    tokens = following(KINDS[kind], "the old", NEXT_WORDS)
    pieces = written(monkeypatch, kind, "the old", tokens)
    assert "".join(pieces) == " barn and the new door"
    assert len(pieces) > 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [" barn", " ", " and the", "rn an", "barn and"])
def test_stop_strings_with_a_blank_are_found(kind: str, stop: str, monkeypatch: pytest.MonkeyPatch):
    tokens = following(KINDS[kind], "the old", NEXT_WORDS)
    text = " barn and the new door"
    assert "".join(written(monkeypatch, kind, "the old", tokens, stop=[stop])) == text[: text.index(stop)]


@pytest.mark.parametrize("kind", OF_WORDS)
@pytest.mark.parametrize("ending", [" ", "\n", " \t"])
def test_white_space_that_a_tokenizer_drops_is_not_written_twice(
    kind: str, ending: str, monkeypatch: pytest.MonkeyPatch
):
    tokenizer, prompt = KINDS[kind], f"the old{ending}"
    kept = KINDS[kind].decode(tokenizer.encode(prompt)) != "the old"
    tokens = following(tokenizer, "the old", NEXT_WORDS)
    blank = " " if kept else ""
    assert "".join(written(monkeypatch, kind, prompt, tokens)) == f"{blank}barn and the new door"


@pytest.mark.parametrize("kind", OF_WORDS)
def test_a_document_begins_without_a_blank(kind: str, monkeypatch: pytest.MonkeyPatch):
    assert "".join(written(monkeypatch, kind, "", KINDS[kind].encode("the old barn"))) == "the old barn"


@pytest.mark.parametrize("kind", KINDS)
def test_many_prompts_have_each_its_own_blank(kind: str, monkeypatch: pytest.MonkeyPatch):
    tokenizer = KINDS[kind]
    scripts = [
        following(tokenizer, "the old", NEXT_WORDS[:2]),
        tokenizer.encode("the door"),
        following(tokenizer, "the new", ["door"]),
    ]
    Scripts(monkeypatch, *[[*script, tokenizer.end_of_text] for script in scripts])
    texts = ["", "", ""]
    for row, piece in generate_batch(model_of(tokenizer), tokenizer, ["the old", "", "the new"], max_new_tokens=40):
        texts[row] += piece
    assert texts == [" barn and", tokenizer.decode(tokenizer.encode("the door")), " door"]


@pytest.mark.parametrize("kind", ["byte", "bpe", "sentencepiece"])
def test_half_characters_wait_for_the_other_half(kind: str, monkeypatch: pytest.MonkeyPatch):
    tokenizer = KINDS[kind]
    halves = [tokenizer._backend.token_to_id(f"<0x{byte:02X}>") for byte in "Ж".encode()]
    tokens = halves if kind == "sentencepiece" else tokenizer.encode("Ж")
    assert len(tokens) == 2
    assert written(monkeypatch, kind, "the old 字", tokens) == ["Ж"]
    assert written(monkeypatch, kind, "the old 字", tokens[:1]) == ["\ufffd"]
    assert written(monkeypatch, kind, "a literal \ufffd", tokens) == ["Ж"]


def test_the_symbols_of_a_task_stay_apart(monkeypatch: pytest.MonkeyPatch):
    tokenizer = parse_task("synth:parity").tokenizer
    for prompt, text in (("1 0", " 1 1"), ("1 0 ", "1 1"), ("", " 1 1")):
        Scripts(monkeypatch, tokenizer.encode("1 1"))
        assert "".join(generate(model_of(tokenizer), tokenizer, prompt, max_new_tokens=2)) == text
