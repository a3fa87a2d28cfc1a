import io
import json
import sys

import pytest

from tests.data.kinds import KINDS


def test_the_prompt_is_continued(ddl, trained):
    code, out, err = ddl("generate", "run/ddl-cc", "--prompt", "def ", "--max-new-tokens", 30)
    assert (code, err) == (0, "")
    assert out.startswith("def ")
    assert len(out.encode()) > len("def \n")


def test_the_seed_decides_and_greedy_text_has_none(ddl, trained):
    def write(*options):
        return ddl("generate", "run/baseline/checkpoints/LATEST", "--max-new-tokens", 40, *options)[1]

    assert write("--seed", 1) == write("--seed", 1) != write("--seed", 2)
    assert write("--seed", 1, "--temperature", 0) == write("--seed", 2, "--temperature", 0)


def test_a_tokenizer_of_words_keeps_the_blank_after_the_prompt(ddl, text, tiny):
    KINDS["words"].save(text.parent / "words.json")
    options = ["--tokenizer", "words.json", "--out", "run", "--train.max-steps", 1]
    text.write_text("the old barn and the new door\n" * 100)
    assert ddl("train", "--data", text, *options, *tiny)[0] == 0
    whole = ["generate", "run/ddl-cc", "--prompt", "the old", "--max-new-tokens", 12]
    shown = ddl(*whole)[1]
    words = shown.removesuffix("\n").split(" ")
    assert words[:2] == ["the", "old"]
    assert len(words) > 3
    assert json.loads(ddl(*whole, "--json")[1]) == {"prompt": "the old", "text": shown.removeprefix("the old")[:-1]}
    assert ddl(*whole, "--stop", f" {words[2]}")[1] == "the old\n"


def test_without_echo_only_the_continuation_is_printed(ddl, trained):
    options = ["generate", "run/ddl-cc", "--prompt", "import ", "--max-new-tokens", 20]
    assert ddl(*options)[1] == "import " + ddl(*options, "--no-echo")[1]


def test_a_prompt_from_a_file_or_stdin(ddl, trained, tmp_path, monkeypatch):
    (tmp_path / "prompt.txt").write_text("äh ")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("äh ".encode())))
    texts = {
        ddl("generate", "run/ddl-cc", "--max-new-tokens", 20, *prompt)[1]
        for prompt in (["--prompt", "äh "], ["--prompt-file", "prompt.txt"], ["--prompt-file", "-"])
    }
    assert len(texts) == 1


PROMPTS = ["def ", "", "import os, sys", 'a "quoted"\nline, äh']


def test_many_prompts_are_continued_as_each_alone(ddl, trained, tmp_path):
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n\n" for prompt in PROMPTS))
    options = ["generate", "run/ddl-cc", "--max-new-tokens", 30, "--seed", 3, "--min-p", 0.05]
    options += ["--repetition-penalty", 1.1]
    alone = [ddl(*options, "--no-echo", "--prompt", prompt)[1].removesuffix("\n") for prompt in PROMPTS]
    given = [argument for prompt in PROMPTS for argument in ("--prompt", prompt)]
    for source in (given, ["--prompt-lines", "prompts.jsonl"], [*given, "--batch-size", 3]):
        code, out, err = ddl(*options, *source, "--json")
        assert (code, err) == (0, "")
        lines = [json.loads(line) for line in out.splitlines()]
        assert lines == [{"prompt": prompt, "text": text} for prompt, text in zip(PROMPTS, alone, strict=True)]
    shown = ddl(*options, *given)[1]
    assert shown == "".join(
        f"--- prompt {number} of 4\n{prompt}{text}\n"
        for number, (prompt, text) in enumerate(zip(PROMPTS, alone, strict=True), start=1)
    )
    bare = ddl(*options, *given, "--json", "--no-echo")[1]
    assert [json.loads(line) for line in bare.splitlines()] == [{"text": text} for text in alone]


def test_one_prompt_as_json(ddl, trained):
    out = ddl("generate", "run/ddl-cc", "--prompt", "def ", "--max-new-tokens", 5, "--json")[1]
    assert json.loads(out)["prompt"] == "def "


def test_json_keeps_every_character_where_stdout_does_not(ddl, trained, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    assert ddl("generate", "run/ddl-cc", "--prompt", "東京", "--max-new-tokens", 0, "--json")[0] == 0
    assert json.loads(stdout.buffer.getvalue()) == {"prompt": "東京", "text": ""}


def test_a_closed_stdout_is_no_bug(ddl, trained, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert ddl("generate", "run/ddl-cc", "--prompt", "a", "--max-new-tokens", 1)[::2] == (0, "")
    sys.stdout.close()


@pytest.mark.parametrize("line", ["bare", "3", "[" * 5000, '"\\ud800"', '["a"]'], ids=range(5))
def test_a_line_that_is_no_prompt_is_named(ddl, trained, tmp_path, line):
    (tmp_path / "prompts.jsonl").write_text(f'"fine"\n{line}\n')
    code, out, err = ddl("generate", "run/ddl-cc", "--prompt-lines", "prompts.jsonl")
    assert (code, out) == (3, "")
    assert "prompts.jsonl, line 2 is not a prompt" in err
    assert err.count("\n") == 1
    (tmp_path / "prompts.jsonl").write_text("\n")
    assert "holds no prompt" in ddl("generate", "run/ddl-cc", "--prompt-lines", "prompts.jsonl")[2]


def test_a_stop_string_ends_the_text(ddl, trained):
    options = ["generate", "run/ddl-cc", "--max-new-tokens", 60, "--no-echo"]
    text = ddl(*options)[1].removesuffix("\n")
    letter = next(character for character in text if character.isascii() and character.isprintable())
    assert ddl(*options, "--stop", letter)[1] == text[: text.index(letter)] + "\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run/ddl-cc", "--top-k", "0"], 2, "top_k must be at least 1, got 0"),
        (["run/ddl-cc", "--top-p", "2"], 2, "top_p"),
        (["run/ddl-cc", "--temperature", "nan"], 2, "temperature"),
        (["run/ddl-cc", "--stop", ""], 2, "stop"),
        (["run/ddl-cc", "--seed", "-1"], 2, "--seed"),
        (["run/ddl-cc", "--max-new-tokens", "-1"], 2, "--max-new-tokens"),
        (["run/ddl-cc", "--prompt", "a", "--prompt-file", "b"], 2, "give one of them"),
        (["run/ddl-cc", "--prompt", "\udcff"], 3, "not UTF-8"),
        (["run/ddl-cc", "--prompt-file", "nothing"], 3, "nothing"),
        (["run/ddl-cc", "--min-p", "2"], 2, "min_p must be in [0, 1], got 2.0"),
        (["run/ddl-cc", "--repetition-penalty", "0"], 2, "repetition_penalty"),
        (["run/ddl-cc", "--batch-size", "0"], 2, "--batch-size must be at least 1, got 0"),
        (["run/ddl-cc", "--prompt-lines", "nothing"], 3, "nothing"),
        (["run"], 4, "run is a run of baseline, ddl-cc; choose one"),
        (["elsewhere"], 4, "no checkpoint elsewhere"),
        ([], 2, "CHECKPOINT"),
    ],
    ids=str,
)
def test_what_cannot_be_generated_is_one_line(arguments, code, says, ddl, trained):
    found, out, err = ddl("generate", *arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert err.startswith("ddl: error: ")
    assert err.count("\n") == 1
