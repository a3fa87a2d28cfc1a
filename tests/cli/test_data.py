import pytest


def test_a_corpus_is_shown(ddl, text):
    code, out, err = ddl("data", text, "--sample", 12)
    assert (code, err) == (0, "")
    assert all(word in out for word in ("train", "validation", "tokenizer byte of 257 tokens", "sha256", text.name))
    assert out.endswith(text.read_text()[:12] + "\n")


def test_a_tokenizer_is_trained_shown_and_saved(ddl, text, tmp_path):
    code, out, err = ddl("data", text, "--tokenizer", "bpe:300", "--save-tokenizer", "mine.json")
    assert code == 0
    assert "tokenizer bpe-300 of 300 tokens" in out
    assert err == "use it with --tokenizer mine.json\n"
    again = ddl("data", text, "--tokenizer", "mine.json")[1]
    assert again == out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nothing.txt"], 3, "nothing.txt"),
        (["*.nothing"], 3, "*.nothing"),
        (["--tokenizer", "bpe:1"], 2, "got bpe:1"),
        (["--tokenizer", ""], 2, "tokenizer must be byte, bpe, bpe:SIZE or the path of a tokenizer.json, got ''"),
        (["--tokenizer", "nothing.json"], 2, "nothing.json"),
        (["--sample", "-1"], 2, "--sample"),
    ],
    ids=str,
)
def test_what_cannot_be_shown_is_one_line(arguments, code, says, ddl):
    found, out, err = ddl("data", *arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert err.startswith("ddl: error: ")
    assert err.count("\n") == 1
