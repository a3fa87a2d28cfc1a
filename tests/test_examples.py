"""Every example runs as a newcomer would run it, and prints what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deep_delta import TrainingConfig, variant_config
from deep_delta.data.tokens import prepare
from deep_delta.training.run import train

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run an example in an empty folder with a cache of its own; its output."""
    folder = tmp_path_factory.mktemp("examples")
    environment = os.environ | {"DEEP_DELTA_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}

    def run_example(name: str, *arguments: str) -> str:
        command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_example


def losses(output: str) -> list[float]:
    return [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", output)]


def test_every_example_is_tested():
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_train_tiny(run):
    output = run("train_tiny.py")
    first, *_, last = losses(output)
    assert 5.0 < first < 6.5  # a uniform guess among 257 tokens has ln 257 = 5.55
    assert last < 2.7
    written = output.split("--- what it writes ---\n")[1]
    assert len(written) > 20


def test_train_tiny_on_a_text_of_ones_own(run, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 200, encoding="utf-8")
    output = run("train_tiny.py", str(text))
    assert losses(output)[-1] < 0.3
    assert "quick brown fox" in output


def test_compare_models(run):
    output = run("compare_models.py")
    rows = re.findall(r"^([a-z-]+) +([\d,]+) parameters .*: (\d\.\d+)  (\d\.\d+)$", output, re.MULTILINE)
    assert [row[0] for row in rows] == ["baseline", "ddl", "ddl-cc"]
    means = {variant: (float(one) + float(two)) / 2 for variant, _, one, two in rows}
    ranked = re.findall(r"^(\d)\. ([a-z-]+) +(\d\.\d+)   not resolved from", output, re.MULTILINE)
    assert [rank for rank, _, _ in ranked] == ["1", "2", "3"]
    assert [variant for _, variant, _ in ranked] == sorted(means, key=means.__getitem__)
    assert all(mean < 8 for mean in means.values())


def test_spectral_report(run):
    output = run("spectral_report.py")
    before, after = output.split("after 60 steps")
    for part in (before, after):
        rows = re.findall(r"^ +(\d) +(\d\.\d\d) ± \d\.\d\d   ([a-z-]+) \(\d+%\) +(-?\d\.\d\d)", part, re.MULTILINE)
        assert [row[0] for row in rows] == ["0", "1", "2"]
        assert all(float(eigenvalue) == pytest.approx(1 - float(beta), abs=0.011) for _, beta, _, eigenvalue in rows)
    assert before.count("interpolating") == 3  # every gate starts near beta_init = 0.5


def test_spectral_report_of_a_checkpoint(run, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_DELTA_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 50, encoding="utf-8")
    data = prepare(str(text))
    config = variant_config("ddl-ec", d_model=16, num_layers=2, num_heads=2, vocab_size=data.tokenizer.vocab_size)
    train({"ddl-ec": config}, TrainingConfig(max_steps=2, batch_size=2, seq_len=32), data, tmp_path / "run")
    output = run("spectral_report.py", str(tmp_path / "run" / "ddl-ec" / "checkpoints" / "LATEST"), str(text))
    title, _, *rows = output.splitlines()
    assert title == "ddl-ec, step 2"
    assert [row.split()[0] for row in rows] == ["0", "1"]


def test_own_network(run):
    output = run("own_network.py")
    first, *_, last = losses(output)
    assert last < first
    assert float(re.search(r"accuracy on new points: (\d+\.\d)%", output)[1]) > 95
    blocks = re.findall(r"^block (\d): β (\d\.\d\d) .* (\d+\.\d\d) → (\d+\.\d\d)$", output, re.MULTILINE)
    assert len(blocks) == 4
    assert all(float(after) <= float(before) for _, _, before, after in blocks)


def test_the_picture_of_the_update_is_what_its_script_draws():
    source, drawn = ROOT / "docs" / "images" / "update.py", ROOT / "docs" / "images" / "update.svg"
    script = f"import runpy; print(runpy.run_path({str(source)!r})['picture'](), end='')"
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == drawn.read_text(encoding="utf-8")


def test_rebuilt_states(run):
    errors = dict(re.findall(r"^(\w+ \w+) +error (\S+)", run("rebuilt_states.py"), re.MULTILINE))
    assert set(errors) == {"fp32 stored", "fp32 rebuilt", "bf16 stored", "bf16 rebuilt"}
    assert float(errors["fp32 rebuilt"]) < 1e-5
    assert float(errors["bf16 rebuilt"]) < 1.5 * float(errors["bf16 stored"])


@pytest.mark.slow
def test_state_tracking(run):
    arguments = ("--studies", "parity", "recall", "--seeds", "2", "--out", "tracking")
    output = run("state_tracking.py", "--quick", *arguments)
    parity, recall = output.split("recall: ")
    shares = r"((?: \d\.\d{3} \|)+)"
    rows = re.findall(rf"^\| (attention|DeltaNet, β in \(0, \d\)) \| (\w+) \|{shares}", parity, re.MULTILINE)
    assert [(row[0][-2:], row[1]) for row in rows] == [
        (mixer, residual) for mixer in ("on", "1)", "2)") for residual in ("additive", "delta", "delta4")
    ]
    assert all(len(row[2].split("|")) == 9 for row in rows)  # at 4, 8, 16, 24, 40, 64, 128 and 256 bits
    assert len(re.findall(rf"^\| K = \d+ \| \w+ \|{shares}", recall, re.MULTILINE)) == 9
    written = re.findall(r"^figure: (\S+)", output, re.MULTILINE)
    assert written == ["tracking/quick/parity.svg", "tracking/quick/recall.svg"]  # apart from those of a full run
    assert run("state_tracking.py", "--quick", *arguments) == output  # what is there is read, not trained again


@pytest.mark.slow
def test_mixers_by_residuals(run):
    output = run("mixers_by_residuals.py", "--steps", "2", "--seeds", "1")
    cells = re.findall(r"(\d\.\d{3}) ± 0\.000", output)
    assert len(cells) == 20
    assert all(5 < float(cell) < 9 for cell in cells)  # bits per byte; a uniform guess has log2 257 = 8.01
    assert len(re.findall(r"^ ?\d+\. \w+-?\w*_[\w-]+: resolved from", output, re.MULTILINE)) == 20
