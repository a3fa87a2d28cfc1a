"""Commands on synthetic tasks."""

import json

import pytest

from deep_delta.runs.comparison import TrainingComparison

TASK = "synth:parity:train=3-8,test=8-32"
TINY = [
    *["--model.d-model", "16", "--model.num-layers", "1", "--model.num-heads", "2", "--train.batch-size", "4"],
    *["--train.eval-batches", "2", "--train.eval-interval", "2", "--train.max-steps", "4"],
]


@pytest.fixture
def run(ddl, tmp_path):
    code, out, err = ddl("train", "--variants", "baseline,ddl-cc", "--data", TASK, "--out", "run", *TINY)
    assert code == 0, err
    return out, err


def test_training_shows_right_answers_by_length(run, tmp_path):
    out, err = run
    table = [line.split() for line in out.splitlines()]
    assert ["model", "share", "of", "3-8", "8", "16", "32"] in table
    shares = [row[:-4] for row in table if len(row) > 4 and all(cell[1:2] == "." for cell in row[-4:])]
    assert shares == [
        ["baseline", "all", "answers"],
        ["last", "answer"],
        ["exact"],
        ["ddl-cc", "all", "answers"],
        *shares[1:3],
    ]
    assert "a guess gets 0.5 right" in out
    assert "bits/byte" not in out
    assert f"--data {TASK}" in out
    assert "ddl-cc  step 4/4  validation " in err
    assert "  right " in err
    assert max(len(line) for line in out.splitlines()) <= 80
    saved = TrainingComparison.read(tmp_path / "run" / "training_comparison.json")
    assert saved.training["seq_len"] == 8
    assert [one.model["max_seq_len"] for one in saved.runs] == [32, 32]
    assert [one.model["vocab_size"] for one in saved.runs] == [4, 4]


def test_checkpoints_are_compared_on_a_task(ddl, run, tmp_path):
    code, out, err = ddl("compare", "run", "--data", TASK, "--sequences", 16, "--save", "out.json")
    assert (code, err) == (0, "")
    assert all(word in out for word in ("wrong answers", "baseline", "ddl-cc", "last answer", "0 mixer"))
    saved = json.loads((tmp_path / "out.json").read_text())
    assert [one["lengths"] for one in saved["rows"][0]["accuracies"]] == ["3-8", "8", "16", "32"]
    assert saved["data"] == TASK


def test_a_trained_model_goes_on_in_symbols(ddl, run):
    code, out, _ = ddl("generate", "run/ddl-cc", "--prompt", "1 0 1", "--max-new-tokens", 4, "--temperature", 0)
    assert code == 0
    words = out.split()
    assert words[:3] == ["1", "0", "1"]
    assert 3 < len(words) <= 7
    assert out.strip() == " ".join(words)
    for prompts in (["1 0 2"], ["1 0", "1 0 2"]):
        given = [word for prompt in prompts for word in ("--prompt", prompt)]
        code, out, err = ddl("generate", "run/ddl-cc", *given, "--batch-size", 1)
        assert (code, out) == (3, "")
        assert "unknown symbol" in err
        assert err.count("\n") == 1


def test_a_task_has_no_beginning_that_was_trained(ddl, run):
    for prompts in ([], ["--prompt", ""], ["--prompt", "1 0", "--prompt", " "]):
        code, out, err = ddl("generate", "run/ddl-cc", *prompts)
        assert (code, out) == (2, "")
        assert (
            'was trained on a task, whose sequences begin with any symbol; give the first ones, as --prompt "0"' in err
        )


def test_a_run_is_resumed(ddl, run):
    code, out, err = ddl("train", "--resume", "run", "--train.max-steps", 6)
    assert code == 0, err
    assert "Right answers by length" in out


def test_a_seq_len_caps_the_training_lengths(ddl, tmp_path):
    code, out, err = ddl("train", "--data", TASK, "--out", "short", *TINY, "--train.seq-len", 5)
    assert code == 0, err
    assert " 3-5 " in out


@pytest.mark.parametrize("name", ["s5", "modular-arithmetic-brackets", "recall:pairs=4,keys=8,values=8"])
def test_a_task_is_shown_with_its_symbols_and_examples(ddl, name):
    code, out, err = ddl("data", f"synth:{name}", "--sample", 60)
    assert (code, err) == (0, "")
    assert all(
        word in out for word in (f"synth:{name.split(':')[0]}", "train", "test", "symbols: ", "Example 0", "sha256")
    )


def test_the_tokenizer_of_a_task_is_saved(ddl, tmp_path):
    assert ddl("data", "synth:parity", "--sample", 0, "--save-tokenizer", "mine.json")[0] == 0
    assert "WordLevel" in (tmp_path / "mine.json").read_text()


def test_help_lists_the_tasks(ddl):
    code, out, _ = ddl("data", "--help")
    assert code == 0
    assert "synth:recall:pairs=16,test=16-64,keys=64,values=64" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "synth:parity" in ddl("train", "--help")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--data", "synth:Parity"], "unknown task 'synth:Parity'; there are synth:parity,"),
        (["train", "--data", "Synth:parity"], "unknown task 'Synth:parity'"),
        (["train", "--data", "synth:parity:train=0"], "train must be a length or a range"),
        (["train", "--data", "synth:parity", "--tokenizer", "byte"], "leave --tokenizer out"),
        (["train", "--data", "synth:parity", "--train.seq-len", "2"], "leave train.seq_len out and it follows"),
        (["train", "--data", TASK, "--model.max-seq-len", "31"], "a test sequence of 32 tokens is longer than"),
        (["train", "--data", "synth:s5", "--model.vocab-size", "4"], "vocab_size is 4, but the tokenizer has 122"),
        (["data", "synth:s4"], "unknown task 'synth:s4'"),
        (["data", "synth:s5", "--tokenizer", "bpe"], "leave --tokenizer out"),
        (["compare", "--data", "synth:recall:pairs=100"], "pairs 100 is more than the 64 pairs"),
        (["compare", "--data", TASK, "--split", "train"], "--split is not for a task"),
        (["compare", "--data", TASK, "--max-bytes", "5"], "--max-bytes is not for a task"),
        (["compare", "--data", TASK, "--sequences", "0"], "--sequences must be at least 1, got 0"),
        (["compare", "--sequences", "5"], "--sequences is not for a text"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line_and_exit_2_and_leaves_nothing(arguments, says, ddl, tmp_path):
    code, out, err = ddl(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("ddl: error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        ("synth:s3", 3, "does not know the symbols of synth:s3"),
        ("synth:parity:test=64", 2, "64 tokens are 64 tokens, and baseline holds max_seq_len 32; give shorter lengths"),
        ("synth:parity:test=8", 2, "40 tokens are 40 tokens, and baseline holds max_seq_len 32; give shorter lengths"),
    ],
)
def test_a_model_that_cannot_be_asked_is_named(data, code, says, ddl, run):
    found, out, err = ddl("compare", "run", "--data", data)
    assert (found, out) == (code, "")
    assert says in err
