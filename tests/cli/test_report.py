"""`ddl report` as a user runs it."""

import json
import subprocess
import sys

import pytest

from deep_delta.explore.demonstration import demonstration


def num_samples(text):
    return text.split('class="samples">')[1].split("<script")[0].count("<pre>")


def test_a_trained_run_becomes_a_page_with_samples(ddl, trained):
    code, out, err = ddl("report", "run", "--figures", "figures")
    assert code == 0, err
    assert out.startswith("run/report.html, ")
    text = (trained / "report.html").read_text(encoding="utf-8")
    assert "ddl-cc, seed 0, after step 4" in text
    assert "ddl train --variants baseline,ddl-cc" in text
    assert num_samples(text) == 2
    assert (trained.parent / "figures" / "validation.png").stat().st_size > 5000
    (trained / "ddl-cc" / "checkpoints" / "step-4" / "model.safetensors").write_bytes(b"damaged")
    assert ddl("report", "run")[0] == 0, "an earlier page is replaced"
    text = (trained / "report.html").read_text(encoding="utf-8")
    assert num_samples(text) == 1
    assert "model.safetensors" in text


def test_a_task_is_sampled_from_a_symbol(ddl, tiny):
    task = ["--variants", "ddl", "--data", "synth:parity", "--out", "task", *tiny, "--train.max-steps", 2]
    assert ddl("train", *task)[0] == 0
    assert ddl("report", "task")[0] == 0


def test_a_run_that_has_logged_nothing_is_one_line(ddl, tmp_path):
    log = tmp_path / "run" / "ddl" / "events.jsonl"
    log.parent.mkdir(parents=True)
    log.touch()
    for command in (["report", "run"], ["export", "run", "--csv", "tables"]):
        code, out, err = ddl(*command)
        assert (code, out) == (3, "")
        assert "has logged no step and no evaluation yet" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "run" / "report.html").exists()
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "RUN"),
        (["missing"], 2, "there is no missing"),
        (["empty"], 4, "is no run"),
        (["unstarted"], 3, "no variant that has begun"),
        (["made", "--out", "mine.txt"], 2, "no page of ddl report"),
        (["made", "--out", "."], 2, "is a folder"),
        (["made", "--figures", "x", "--out", "x"], 2, "--figures wants a folder of its own"),
        (["made", "--figures", "empty/.."], 2, "not empty"),
        (["made", "--nonsense"], 2, "unknown option"),
    ],
)
def test_bad_input_is_one_line(ddl, tmp_path, arguments, code, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "unstarted").mkdir()
    (tmp_path / "unstarted" / "training_comparison.json").write_text("{}")
    (tmp_path / "mine.txt").write_text("mine")
    demonstration(tmp_path / "made")
    got, out, err = ddl("report", *arguments)
    assert (got, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_without_samples_no_torch_is_imported(tmp_path):
    log = tmp_path / "run" / "ddl" / "events.jsonl"
    log.parent.mkdir(parents=True)
    event = {
        "kind": "step",
        "step": 1,
        "loss": 2.0,
        "learning_rate": 0.1,
        "grad_norm": 1.0,
        "tokens": 8,
        "seconds": 0.5,
    }
    log.write_text(json.dumps(event) + "\n")
    program = (
        "import sys; from deep_delta.cli.main import main; "
        f"code = main(['report', {str(tmp_path / 'run')!r}, '--no-samples']); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
