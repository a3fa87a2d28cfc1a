import sys

import pytest


def test_the_demo_from_one_end_to_the_other(ddl, tmp_path):
    code, out, err = ddl("demo", "--steps", 1, "--variants", "baseline,ddl-cc", "--out", "demo")
    assert code == 0, err
    parts = ["Best validation loss", "resolved", "Gates", "Time of a training step", "writes", "Next"]
    assert [part for part in parts if part not in out] == []
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["report.html", "seed-0", "seed-1"]
    assert "The page is demo/report.html" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    following = [line.split() for line in out[out.index("Next") :].splitlines() if line.startswith("  ddl ")]
    assert [command[1] for command in following] == ["tui", "report", "compare", "generate", "train"]
    assert ddl("generate", following[3][2], "--max-new-tokens", 3)[0] == 0
    assert ddl("tui", following[0][2], "--once")[0] == 0


def test_without_vl_convert_the_demo_says_what_the_page_needs(ddl, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    code, out, err = ddl("demo", "--steps", 1, "--seeds", 1, "--variants", "ddl", "--out", "demo")
    assert code == 0, err
    assert "No page: " in out
    assert "deep-delta-learning[report]" in out
    assert not (tmp_path / "demo" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seeds", "0"], "--seeds must be from 1 to 100, got 0"),
        (["--steps", "0"], "train.max_steps: "),
        (["--variants", "none"], "unknown variant 'none'"),
        (["--seed", "3"], "(did you mean '--seeds'?)"),
    ],
    ids=str,
)
def test_bad_options_are_one_line_and_leave_nothing(arguments, says, ddl, tmp_path):
    code, out, err = ddl("demo", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert not list(tmp_path.iterdir())
