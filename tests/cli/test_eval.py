"""`ddl eval` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deep_delta.cli import console
from deep_delta.runs.suites import SuiteResults

TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1
"""


@pytest.fixture
def trained(ddl, text, tiny):
    """A finished run of two variants that hold a sentence."""
    longer = ["--variants", "baseline,ddl-cc", "--data", text, "--train.seq-len", 64, "--train.max-steps", 2]
    code, _, err = ddl("train", "--out", "run", *tiny, *longer)
    assert code == 0, err
    return text.parent / "run"


def test_sentences_are_asked_and_the_result_is_saved(ddl, trained):
    code, out, err = ddl(
        "eval", "run", "--suite", "pronoun_case, reflexive_gender", "--pairs", 20, "--save", "run/suites.json"
    )
    assert (code, err) == (0, "")
    for words in ("baseline: held-out words", "ddl-cc: known words", "reflexive_gender", "On the same questions"):
        assert words in out
    assert "not of equal token count" in " ".join(out.split())
    results = SuiteResults.read(trained / "suites.json")
    assert [model.name for model in results.models] == ["baseline", "ddl-cc"]
    rows = {(row.model, row.phenomenon, row.split): row for row in results.rows}
    row = rows["ddl-cc", "reflexive_gender", "seen"]
    assert row.count + row.skipped == 20
    assert row.count > 0
    assert row.fivegram is not None


def test_a_model_that_is_named_twice_is_asked_once(ddl, trained):
    twice = ["run/ddl-cc", "run", "run/ddl-cc/checkpoints/LATEST"]
    code, out, err = ddl("eval", *twice, "--suite", "reflexive_gender", "--pairs", 4, "--json")
    assert (code, err) == (0, "")
    assert [model["name"] for model in json.loads(out)["models"]] == ["ddl-cc", "baseline"]


def test_a_narrow_terminal_shows_every_column(ddl, trained, monkeypatch):
    monkeypatch.setattr(console.out, "_width", 40)
    code, out, _ = ddl("eval", "run/ddl-cc", "--suite", "reflexive_gender", "--pairs", 20)
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 40
    assert all(word in out for word in ("reflexive_gender", "right", "both", "5-gram", "pairs"))


def test_json_is_the_result_alone(ddl, trained):
    code, out, _ = ddl("eval", "run/ddl-cc", "--suite", "reflexive_gender", "--pairs", 20, "--json")
    assert code == 0
    assert json.loads(out)["kind"] == "suites"


def test_a_task_is_scored_at_its_lengths(ddl, tiny):
    train = ["train", "--data", "synth:parity:train=2-8,test=8-16", "--out", "run", *tiny[:4], "--train.max-steps", 2]
    assert ddl(*train)[0] == 0
    code, out, _ = ddl("eval", "run", "--sequences", 16, "--save", "out.json")
    assert code == 0
    assert "ddl-cc: parity" in out
    saved = json.loads(Path("out.json").read_text())
    assert [row["split"] for row in saved["rows"]] == ["2-8", "8", "16"]
    assert all(row["chance"] == 0.5 and row["majority"] >= 0.5 and row["fivegram"] is not None for row in saved["rows"])
    code, _, err = ddl("eval", "run", "--suite", "language")
    assert code == 3
    assert "nothing to evaluate" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 3, "nothing to evaluate"),
        (["nowhere"], 4, "there is no checkpoint"),
        (["run", "--suite", "agreemnt"], 2, "did you mean agreement"),
        (["run", "--suite", "logic"], 3, "trained on text, and not on a task"),
        (["run", "--suite", "article"], 3, "no pair has members of equal token count"),
        (["run", "--pairs", "0"], 2, "--pairs must be from 1 to 1,000"),
        (["run", "--pairs", "7"], 2, "--pairs must be even"),
        (["run", "--limit", "0", "--tasks", "x"], 2, "--limit must be at least 1"),
        (["run", "--tasks", ""], 2, "--tasks names tasks"),
        (["run", "--suite", "overwrite"], 3, "trained on text, and not on a task"),
        (["run", "--limit", "2"], 2, "--limit is for --tasks"),
        (["run", "--include-path", "run"], 2, "--include-path is for --tasks"),
        (["run", "--save", "nowhere/suites.json"], 2, "--save must be a file in a folder that there is"),
        (["run", "--save", "run"], 2, "--save must be a file in a folder that there is"),
        (["run", "--tasks", "x", "--include-path", "nowhere"], 2, "--include-path must be a folder"),
    ],
    ids=str,
)
def test_what_cannot_be_evaluated_is_one_line(arguments, code, says, ddl, trained):
    found, out, err = ddl("eval", *arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert err.count("\n") == 1


def test_models_of_the_same_task_are_compared(ddl, tiny):
    both = ["--variants", "baseline,ddl", "--train.max-steps", 2]
    assert ddl("train", "--data", "synth:parity:train=2-8,test=8-16", "--out", "run", *tiny[:4], *both)[0] == 0
    assert ddl("eval", "run", "--sequences", 16, "--save", "out.json")[0] == 0
    (found,) = SuiteResults.read(Path("out.json")).comparisons
    assert (found.family, found.models) == ("parity", ("baseline", "ddl"))
    assert found.clusters <= 32
    assert 0 < found.p <= 1


def test_rules_are_asked_in_both_distributions(ddl, tiny):
    train = ["train", "--data", "synth:chaining:train=2-4,test=4,atoms=6", "--out", "run", *tiny[:4]]
    assert ddl(*train, "--train.max-steps", 2)[0] == 0
    code, out, _ = ddl("eval", "run", "--sequences", 8)
    assert code == 0
    assert "ddl-cc: chaining\n" in out
    assert "ddl-cc: chaining-labels" in out


def test_a_model_that_holds_no_sentence_is_one_line(ddl, text, tiny):
    assert ddl("train", "--data", text, "--out", "short", *tiny, "--train.max-steps", 2)[0] == 0
    code, _, err = ddl("eval", "short", "--suite", "reflexive_gender")
    assert code == 3
    assert "no pair has members of equal token count that the model holds" in err


def test_a_damaged_checkpoint_is_told_before_anything_is_evaluated(ddl, trained):
    weights = next(trained.glob("ddl-cc/checkpoints/step-*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    code, out, err = ddl("eval", "run", "--pairs", 2)
    assert (code, out) == (4, "")
    assert "model.safetensors" in err


def test_without_lm_eval_the_extra_is_named(ddl, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, _, err = ddl("eval", "run/ddl-cc", "--tasks", "arc_easy")
    assert code == 2
    assert "pip install 'deep-delta-learning[eval]'" in err


@pytest.mark.slow
def test_a_task_of_lm_evaluation_harness_from_a_local_file(ddl, trained, tmp_path):
    pytest.importorskip("lm_eval")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    questions = [{"question": "import", "choices": [" os", " \x7f\x7f\x7f\x7f\x7f\x7f"], "answer": 0} for _ in range(5)]
    (tasks / "questions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in questions))
    (tasks / "local.yaml").write_text(TASK.format(name="local_imports", file=tasks / "questions.jsonl"))
    (tasks / "no_data.yaml").write_text(TASK.format(name="no_data", file=tasks / "missing.jsonl"))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    program = f"""
from deep_delta.cli.main import main
arguments = ["eval", "run/ddl-cc", "--include-path", {str(tasks)!r}, "--json", "--tasks"]
assert main([*arguments, "local_imports"]) == 0
assert main([*arguments, "no_such_task"]) == 2
assert main([*arguments, "no_data"]) == 3
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=True, timeout=300)
    results = SuiteResults.model_validate_json(done.stdout)
    (accuracy,) = [one for one in results.harness if one.metric == "acc"]
    assert (accuracy.task, accuracy.samples, accuracy.value) == ("local_imports", 5, 1.0)
    assert "lm-eval has no task 'no_such_task'" in done.stderr
    assert "lm-eval cannot run no_data: FileNotFoundError" in done.stderr
