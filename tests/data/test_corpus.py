from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.data import corpus as corpus_module
from deep_delta.data.corpus import Corpus, open_corpus
from deep_delta.data.readers import Piece
from deep_delta.errors import ConfigError, DataError


@dataclass
class Listed:
    """A source of documents given as lists of pieces."""

    documents: list[list[str]]
    name: str = "listed"

    def pieces(self) -> Iterator[Piece]:
        for document in self.documents:
            for number, text in enumerate(document):
                yield Piece(text, number == 0)


def _folder(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return root


def _texts(count: int) -> list[str]:
    return [f"document {number}\n" + f"line {number}\n" * (number % 7 + 5) for number in range(count)]


def _both(corpus: Corpus) -> tuple[list[str], list[str]]:
    return list(corpus.documents("train")), list(corpus.documents("validation"))


@pytest.fixture(scope="module")
def embedded() -> Corpus:
    return open_corpus(None)


def test_the_embedded_corpus_is_split_by_file_without_a_leak(embedded):
    train, validation = _both(embedded)
    assert len(train) > 300
    assert len(validation) > 10
    assert not {"".join(text.split()) for text in train} & {"".join(text.split()) for text in validation}
    assert embedded.num_documents("train") == len(train)
    assert embedded.num_bytes("validation") == sum(len(text.encode()) for text in validation)
    share = embedded.num_bytes("validation") / (embedded.num_bytes("train") + embedded.num_bytes("validation"))
    assert 0.04 < share < 0.06


def test_opening_again_gives_the_same_hash_and_split(embedded):
    again = open_corpus(None)
    assert again.sha256 == embedded.sha256
    assert list(again.documents("validation")) == list(embedded.documents("validation"))


def test_files_are_whole_in_one_split_and_copies_stay_together(tmp_path):
    texts = {f"{number}.txt": text for number, text in enumerate(_texts(60))}
    copies = {f"copies/{name}": text.replace("\n", "\r\n") for name, text in texts.items()}
    train, validation = _both(open_corpus(str(_folder(tmp_path, texts | copies))))
    assert sorted(train + validation) == sorted([*texts.values(), *copies.values()])
    assert validation
    assert len(validation) % 2 == 0
    assert not {"".join(text.split()) for text in train} & {"".join(text.split()) for text in validation}


def test_two_files_are_one_for_each_side(tmp_path):
    folder = _folder(tmp_path, {"a.txt": "first " * 50, "b.txt": "second " * 60})
    assert _both(open_corpus(str(folder))) == (["second " * 60], ["first " * 50])


def test_one_document_is_split_by_position(tmp_path):
    text = "".join(f"line {number} äö\n" for number in range(1000))
    (train,), (validation,) = _both(open_corpus(str(_folder(tmp_path, {"a.txt": text}) / "a.txt")))
    assert train + validation == text
    assert len(validation) == len(text) // 10


def test_copies_of_one_document_leak_nothing():
    text = "abcdefghij" * 10
    train, validation = _both(Corpus(Listed([[text], [text], [text]])))
    assert train == [text[:90]] * 3
    assert validation == [text[90:]] * 3


def test_a_document_beside_crumbs_is_split_by_position():
    train, validation = _both(Corpus(Listed([["x" * 1000], ["crumb"]])))
    assert (train, validation) == (["x" * 900, "crumb"], ["x" * 100])


def test_a_text_too_short_to_hold_anything_out_is_all_train():
    assert _both(Corpus(Listed([["123456789"]]))) == (["123456789"], [])


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1), min_size=1))
def test_nothing_is_lost_or_doubled_whatever_the_pieces(documents):
    corpus = Corpus(Listed(documents))
    train, validation = _both(corpus)
    assert sorted("".join(train + validation)) == sorted("".join("".join(document) for document in documents))
    assert all(train)
    assert all(validation)
    assert train
    for split, texts in (("train", train), ("validation", validation)):
        assert corpus.num_bytes(split) == sum(len(text.encode()) for text in texts)
        assert corpus.num_documents(split) == len(texts)


def test_the_hash_is_of_documents_not_of_their_container(tmp_path):
    texts = _texts(12)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    folder = _folder(tmp_path / "folder", {f"{number:02}.txt": text for number, text in enumerate(texts)})
    corpora = [open_corpus(str(path)) for path in (tmp_path / "a.jsonl", tmp_path / "a.parquet", folder)]
    assert len({corpus.sha256 for corpus in corpora}) == 1
    assert [corpus.name for corpus in corpora] == ["a.jsonl", "a.parquet", "folder"]
    assert len({tuple(corpus.documents("validation")) for corpus in corpora}) == 1


@pytest.mark.parametrize(
    "documents",
    [[["ab", "c"], ["d"]], [["a"], ["bcd"]], [["abcd"]], [["d"], ["abc"]], [["abc"], ["d"], ["d"]]],
    ids=str,
)
def test_other_documents_have_another_hash(documents):
    assert Corpus(Listed(documents)).sha256 != Corpus(Listed([["abc", "x"], ["d"]])).sha256
    same = Corpus(Listed([["abc"], ["d"]])).sha256
    assert (Corpus(Listed(documents)).sha256 == same) == (documents == [["ab", "c"], ["d"]])


def test_a_corpus_that_changes_while_it_is_read_is_refused(tmp_path):
    path = _folder(tmp_path, {"log.txt": "first\n" * 100}) / "log.txt"
    corpus = open_corpus(str(path))
    with path.open("a") as file:
        file.write("more\n")
    with pytest.raises(DataError, match=r"log\.txt changed while it was read"):
        list(corpus.documents("train"))


@pytest.mark.parametrize("content", ["", "\ufeff"], ids=["no bytes", "only a mark"])
def test_an_empty_file_is_refused(tmp_path, content):
    path = _folder(tmp_path, {"a.txt": content}) / "a.txt"
    with pytest.raises(DataError, match=r"a\.txt is empty"):
        open_corpus(str(path))


def test_a_folder_of_empty_files_is_refused_and_some_are_fine(tmp_path):
    _folder(tmp_path, {"a.txt": "", "b.txt": ""})
    with pytest.raises(DataError, match="is empty"):
        open_corpus(str(tmp_path))
    _folder(tmp_path, {"c.txt": "some text"})
    assert list(open_corpus(str(tmp_path)).documents("train")) == ["some text"]


def test_one_bad_file_of_a_folder_is_named(tmp_path):
    _folder(tmp_path, {"a.txt": "fine", "c.txt": "fine"})
    (tmp_path / "b.txt").write_bytes(b"text\xfe")
    with pytest.raises(DataError, match=r"b\.txt is not UTF-8: 0xfe at byte 4 "):
        open_corpus(str(tmp_path))


@pytest.mark.parametrize("spec", ["hf:wikitext", "hf:name:config", "shards/*.bin", "train.bin"])
def test_kinds_of_later_versions_are_refused_by_name(spec):
    with pytest.raises(ConfigError, match="are not in this version") as caught:
        open_corpus(spec)
    assert str(caught.value).startswith(f"{spec}: ")


def test_a_task_is_no_text():
    with pytest.raises(ConfigError, match="synth:parity is a task and has no text"):
        open_corpus("synth:parity")


def test_an_empty_spec_is_not_the_working_folder():
    with pytest.raises(ConfigError, match="got an empty text"):
        open_corpus("")


def test_a_path_that_no_system_takes_is_refused():
    with pytest.raises(DataError, match="File name too long"):
        open_corpus("x" * 5000)
    with pytest.raises(DataError, match="there is no file"):
        open_corpus("a\0b")


def test_a_new_kind_of_source_needs_only_a_row(monkeypatch):
    monkeypatch.setitem(corpus_module.SCHEMES, "synth:*", lambda spec: Listed([[spec]], name="made"))
    corpus = open_corpus("synth:parity")
    assert (corpus.name, _both(corpus)) == ("made", (["synth:parit"], ["y"]))
