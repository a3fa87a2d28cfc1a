import json
import shutil

import pytest


def test_checkpoints_are_ranked_by_bits_per_byte(ddl, trained, text):
    code, out, err = ddl("compare", *sorted(trained.glob("*/checkpoints/LATEST")), "--data", text, "--save", "out.json")
    assert (code, err) == (0, "")
    assert all(word in out for word in ("bits/byte", "FLOPs/token", "baseline", "ddl-cc", "0 mixer"))
    saved = json.loads((trained.parent / "out.json").read_text())
    bits = [row["bits_per_byte"] for row in saved["rows"]]
    assert bits == sorted(bits)
    assert len(bits) == 2


def test_a_run_stands_for_its_variants(ddl, trained, text):
    names = ddl("compare", "run", "--data", text)[1]
    assert names == ddl("compare", "run/baseline", "run/ddl-cc", "--data", text)[1]


def test_a_text_that_was_not_trained_on_is_read_whole(ddl, trained, text):
    (trained.parent / "new.txt").write_text("Not what it was trained on.\n" * 100)
    assert "On 2,800 bytes of new.txt (all)" in ddl("compare", "run/ddl-cc", "--data", "new.txt")[1]
    assert "(validation)" in ddl("compare", "run/ddl-cc", "--data", text)[1]
    assert "(validation)" in ddl("compare", "run/ddl-cc", "--data", "new.txt", "--split", "validation")[1]


def test_names_tell_runs_and_steps_apart(ddl, trained, text):
    shutil.copytree("run", "other")
    code, out, _ = ddl("compare", "run/ddl-cc", "other/ddl-cc", "--data", text)
    assert code == 0
    assert "run/ddl-cc" in out
    assert "other/ddl-cc" in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 3, "nothing to evaluate"),
        (["run/*/checkpoints/LATEST"], 4, "there is no checkpoint"),
        (["run", "run"], 2, "given twice"),
        (["run", "--data", "empty.txt"], 3, "empty.txt is empty"),
        (["run", "--max-bytes", "0"], 2, "--max-bytes must be at least 1"),
        (["run", "--split", "test"], 2, "--split: invalid choice"),
        (["run", "--spilt", "train"], 2, "(did you mean '--split'?)"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_one_line(arguments, code, says, ddl, trained, text):
    (trained.parent / "empty.txt").touch()
    found, out, err = ddl("compare", "--data", text, *arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert err.startswith("ddl: error: ")
    assert err.count("\n") == 1
