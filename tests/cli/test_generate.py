import io

import pytest


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
        (["run/ddl-cc", "--prompt", "a", "--prompt-file", "b"], 2, "two prompts"),
        (["run/ddl-cc", "--prompt", "\udcff"], 3, "not UTF-8"),
        (["run/ddl-cc", "--prompt-file", "nothing"], 3, "nothing"),
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
