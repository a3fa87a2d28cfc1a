import json
import os
import signal
import subprocess
import sys
import time

import pytest

from deep_delta.runs.comparison import TrainingComparison
from deep_delta.training.config import TrainingConfig


def one_line(error):
    return error.startswith("ddl: error: ") and error.count("\n") == 1


def test_a_run_is_trained_compared_and_recorded(trained):
    comparison = TrainingComparison.read(trained / "training_comparison.json")
    assert [run.status for run in comparison.runs] == ["finished", "finished"]
    assert [run.step for run in comparison.runs] == [4, 4]
    assert (trained / "ddl-cc" / "checkpoints" / "LATEST").read_text() == "step-4\n"


def test_what_is_shown(ddl, text, tiny):
    code, out, err = ddl("train", "--variants", "all", "--data", text, "--out", "run", *tiny, "--train.max-steps", 2)
    assert code == 0
    assert all(line in out for line in ("loss", "against baseline", "not resolved", "0 mixer", "ddl-tokenconv"))
    assert "ddl compare run/*/checkpoints/LATEST" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "ddl-cc-ec  step 2/2  validation " in err


def test_hyper_connections_are_trained_resumed_and_compared_without_gates(ddl, text, tiny):
    options = ["--variants", "baseline,ddl-cc", "--data", text, "--out", "run", "--model.residual", "hyper", *tiny]
    code, out, err = ddl("train", *options, "--train.max-steps", 2)
    assert code == 0, err
    assert "against baseline" in out
    assert "Gates" not in out
    code, out, err = ddl("train", "--resume", "run", "--train.max-steps", 3)
    assert code == 0, err
    code, out, err = ddl("compare", "run/baseline/checkpoints/LATEST", "run/ddl-cc/checkpoints/LATEST", "--data", text)
    assert code == 0, err
    code, out, err = ddl("train", *options[:4], "--model.residual", "hyper", "--model.state-storage", "rebuilt", *tiny)
    assert code == 2
    assert "model.residual hyper mixes its streams, which state_storage rebuilt cannot undo; use stored" in err


def test_without_an_out_folder_the_next_free_one_is_taken(ddl, text, tmp_path, tiny):
    for number in (1, 2):
        code, out, _ = ddl("train", "--variants", "ddl", "--data", text, *tiny, "--train.max-steps", 1)
        assert code == 0
        assert f"runs/train-{number}" in out
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["train-1", "train-2"]


def test_an_unfinished_or_longer_run_is_resumed(ddl, trained):
    code, out, err = ddl("train", "--resume", "run", "--train.max-steps", 6)
    assert code == 0, err
    assert [run.step for run in TrainingComparison.read(trained / "training_comparison.json").runs] == [6, 6]
    assert "The run is in run." in out


def test_one_checkpoint_is_resumed(ddl, trained):
    code, out, err = ddl("train", "--resume", "run/ddl-cc/checkpoints/LATEST", "--train.max-steps", 6)
    assert code == 0, err
    runs = TrainingComparison.read(trained / "training_comparison.json").runs
    assert {run.variant: run.step for run in runs} == {"baseline": 4, "ddl-cc": 6}
    assert "run." in out


def test_a_checkpoint_is_resumed_from_inside_its_folder(ddl, trained, monkeypatch):
    monkeypatch.chdir(trained / "ddl-cc" / "checkpoints")
    code, out, err = ddl("train", "--resume", "step-4", "--data", trained.parent / "text.txt", "--train.max-steps", 5)
    assert code == 0, err
    assert f"The run is in {trained}." in out


def test_the_best_weights_are_not_resumed_from(ddl, trained):
    code, _, err = ddl("train", "--resume", "run/ddl-cc/checkpoints/step-4/best_validation", "--train.max-steps", 6)
    assert code == 4
    assert one_line(err)
    assert "holds weights only; resume from step-4" in err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no file"),
        (b"", "is empty"),
        (b"\x7fELF\x00\x01", "is binary"),
        (b"fine \xff\xfe", "byte 5"),
        (b"short", "needs 17"),
    ],
    ids=["missing", "empty", "binary", "bad UTF-8", "short"],
)
def test_data_that_cannot_be_trained_on_is_exit_3_and_leaves_nothing(content, says, ddl, tmp_path, tiny):
    if content is not None:
        (tmp_path / "data.txt").write_bytes(content)
    code, out, err = ddl("train", "--data", "data.txt", "--out", "run", *tiny)
    assert (code, out) == (3, "")
    assert one_line(err)
    assert "data.txt" in err or content == b"short"
    assert says in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--variants", "dll"], "unknown variant 'dll' (did you mean 'ddl'?)"),
        (["--variants", ""], "unknown variant ''"),
        (["--model.d-model", "100", "--model.num-heads", "3"], "d_model must be divisible by num_heads, got 100 and 3"),
        (["--train.learning-rate", "nan"], "train.learning_rate: input should be a finite number, got nan"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--resume", "elsewhere", "--out", "x"], "leave --out out"),
        (["--resume", "elsewhere", "--model.d-model", "32"], "leave model.d_model out"),
        (["--tokenizer", "bpe:x"], "bpe:x"),
        (["--variants", "ddl", "--model.d-value", "2"], "ddl has d_value 1"),
    ],
    ids=str,
)
def test_a_bad_configuration_is_exit_2_and_leaves_nothing(arguments, says, ddl, text, tmp_path):
    code, out, err = ddl("train", "--data", text, *arguments)
    assert (code, out) == (2, "")
    assert one_line(err)
    assert says in err
    assert not list((tmp_path).glob("runs/*"))


def test_an_existing_run_is_never_trained_over(ddl, trained, text, tiny):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    code, _, err = ddl("train", "--data", text, "--out", "run", *tiny)
    assert code == 2
    assert one_line(err)
    assert "--resume" in err
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}


def test_a_flipped_byte_in_a_checkpoint_is_exit_4(ddl, trained):
    weights = trained / "ddl-cc" / "checkpoints" / "step-4" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    code, _, err = ddl("train", "--resume", "run", "--train.max-steps", 6)
    assert code == 4
    assert err.splitlines()[-1].startswith("ddl: error: run/ddl-cc/checkpoints/step-4/model.safetensors is damaged")


def test_a_checkpoint_of_another_format_version_is_exit_4(ddl, trained):
    manifest = trained / "baseline" / "checkpoints" / "step-4" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 2'))
    code, _, err = ddl("train", "--resume", "run", "--train.max-steps", 6)
    assert code == 4
    assert one_line(err)
    assert "format version" in err


def test_a_diverging_run_is_exit_5(ddl, text, tiny):
    code, _, err = ddl(
        "train", "--data", text, "--out", "run", *tiny, "--train.learning-rate", 1000, "--train.max-steps", 200
    )
    assert code == 5
    assert "ddl: error: ddl-cc: " in err


def test_a_run_is_never_started_where_the_disk_is_too_small(ddl, text, monkeypatch, tiny):
    monkeypatch.setattr("shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("U", (), {"free": 1000})())
    code, _, err = ddl("train", "--data", text, "--out", "run", *tiny)
    assert code == 6
    assert one_line(err)


def bad_configurations():
    """Wrong values for every number of the training and the model."""
    yield from (["--train.seed", "-1"], ["--model.d-value", "0"], ["--train.data-workers", "300"])
    for name, field in TrainingConfig.model_fields.items():
        if field.annotation in (int, float):
            for value in ("nan", "-1", "inf", "1e400", "x", "9" * 30):
                if (name, value) != ("learning_rate", "1"):
                    yield [f"--train.{name.replace('_', '-')}", value]


def test_bad_configurations_are_refused_before_torch_is_imported(tmp_path):
    """All in one new process, which must not have imported torch in the end."""
    cases = list(bad_configurations())
    code = (
        "import json, sys\n"
        "from deep_delta.cli.main import main\n"
        "codes = [main(['train', *case]) for case in json.loads(sys.argv[1])]\n"
        "print(json.dumps([codes, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(cases)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    codes, torch_imported = json.loads(done.stdout)
    assert {json.dumps(case) for case, code in zip(cases, codes, strict=True) if code != 2} == set()
    assert not torch_imported
    assert done.stderr.count("\n") == len(cases)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_saves_and_the_run_resumes(signum, code, ddl, text, tmp_path, tiny):
    command = [sys.executable, "-c", "import sys; from deep_delta.cli.main import main; sys.exit(main())", "train"]
    options = ["--variants", "ddl", "--data", str(text), "--out", "run", *tiny, "--train.max-steps", "1000000"]
    events = tmp_path / "run" / "ddl" / "events.jsonl"
    process = subprocess.Popen([*command, *options], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (events.exists() and '"step"' in events.read_text()) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    last = err.splitlines()[-1]
    assert last.startswith(f"ddl: stopped by {signum.name} after step ")
    assert last.endswith("continue with --resume run")
    step = TrainingComparison.read(tmp_path / "run" / "training_comparison.json").runs[0].step
    assert ddl("train", "--resume", "run", "--train.max-steps", step + 2)[0] == 0


def test_several_seeds_are_trained_pooled_resumed_and_compared(ddl, text, tiny):
    options = ["--variants", "baseline,ddl", "--data", text, "--out", "several", *tiny]
    code, out, err = ddl("train", *options, "--train.max-steps", 2, "--seeds", 2)
    assert code == 0, err
    assert "± is the 95% interval of a mean over seeds" in out
    assert "ddl compare several --data OTHER.txt" in out
    assert "ddl generate several/seed-0/" in out
    assert "seed 1  ddl  step 2/2" in err
    code, out, err = ddl("train", "--resume", "several", "--seeds", 3, "--train.max-steps", 3)
    assert code == 0, err
    assert "seed 0  ddl  step 3/3" in err
    assert "seed 2  baseline  step 3/3" in err
    code, out, err = ddl("compare", "several", "--data", text)
    assert code == 0, err
    assert "Over seeds: bits per byte" in out
    code, out, err = ddl("compare", "several", "several/seed-0/ddl/checkpoints/step-2", "--data", text)
    assert code == 0, err
    assert "not ranked over seeds" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--seeds", 0), "--seeds must be from 1 to 100, got 0"),
        (("--resume", "run", "--seeds", 2), "run is no folder of several seeds"),
    ],
)
def test_seeds_that_cannot_be_meant_are_one_line(arguments, says, ddl, trained):
    code, _, err = ddl("train", *arguments)
    assert (code, one_line(err), says in err) == (2, True, True)


def test_when_the_time_is_up_a_run_says_how_to_go_on_and_ends_well(ddl, text, tiny):
    options = ["--variants", "ddl", "--data", text, "--out", "limited", *tiny]
    code, _, err = ddl("train", *options, "--train.max-steps", 50, "--train.max-time", "0.001s")
    assert code == 0
    assert err.startswith("ddl: the time is up (max_time)")
    assert err.endswith("; continue with --resume limited\n")
    assert "error" not in err
    code, _, err = ddl("train", "--resume", "limited", "--train.max-time", "1h", "--train.max-steps", 3)
    assert code == 0, err
    code, _, err = ddl("train", *options, "--train.max-time", "soon")
    assert (code, one_line(err)) == (2, True)
    assert "train.max_time: a time is written as 4h, 1h30m, 90s or a number of seconds, got 'soon'" in err
