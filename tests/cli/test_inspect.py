"""`ddl inspect` as a user runs it: tables, JSON, a saved record, and one line for what cannot be."""

import json
import shutil

import pytest

from deep_delta.runs.inspection import CHANGES, Inspection


@pytest.fixture
def few(text):
    return ["--data", text, "--tokens", 64, "--quick"]


def test_a_checkpoint_is_looked_into(ddl, trained, few):
    code, out, err = ddl("inspect", "run/ddl-cc", *few, "--save", "found.json")
    assert (code, err) == (0, "")
    for word in (
        "ddl-cc, step 4",
        "Gates β by token class",
        "Reuse of directions",
        "Effective rank",
        "gate_mean",
        "0 mlp",
    ):
        assert word in out
    assert "can wake pathways" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    found = Inspection.read(trained.parent / "found.json")
    assert (found.kind, found.model.variant, found.model.step, found.split) == ("inspection", "ddl-cc", 4, "validation")
    assert found.documents == 1
    assert {row.group for row in found.gates} == {"all", "class", "position"}
    assert {row.intervention.what for row in found.interventions} < CHANGES.keys()
    assert all(row.whole_sublayer for row in found.interventions if row.intervention.what == "gate_0")


def test_a_narrow_terminal_gets_more_tables(ddl, trained, few, monkeypatch):
    from deep_delta.cli import console

    wide = ddl("inspect", "run/ddl-cc", *few, "--only", "gate_0")[1]
    monkeypatch.setattr(console.out, "width", 40)
    narrow = ddl("inspect", "run/ddl-cc", *few, "--only", "gate_0")[1]
    assert max(map(len, narrow.splitlines())) <= 40
    assert narrow.count("Gates β by token class") > 1
    cut = {word for word in set(wide.split()) - set(narrow.split()) if not word.startswith("─")}
    assert cut == set()


def test_json_is_the_saved_record(ddl, trained, few):
    code, out, err = ddl("inspect", "run/ddl-cc", *few, "--json", "--save", "found.json", "--only", "gate_0")
    assert (code, err) == (0, "")
    assert out == (trained.parent / "found.json").read_text()
    assert {row["intervention"]["what"] for row in json.loads(out)["interventions"]} == {"gate_0"}


def test_saved_interventions_are_made_again(ddl, trained, few):
    first = json.loads(ddl("inspect", "run/ddl-cc", *few, "--json")[1])["interventions"]
    (trained.parent / "again.json").write_text(json.dumps([row["intervention"] for row in first]))
    again = json.loads(ddl("inspect", "run/ddl-cc", *few, "--json", "--intervention", "again.json")[1])["interventions"]
    assert again == first
    one = {"what": "gate_1", "layer": 0, "sublayer": "mlp", "token_class": "inside", "positions": [1, 2, 3]}
    (trained.parent / "one.json").write_text(json.dumps(one))
    code, out, _ = ddl("inspect", "run/ddl-cc", *few, "--intervention", "one.json")
    assert code == 0
    assert "inside" in out.partition("gate_1")[2]


def test_a_model_without_gates_says_so(ddl, trained, few):
    code, out, err = ddl("inspect", "run/baseline", *few)
    assert (code, err) == (0, "")
    assert "residual additive has no gates" in out
    assert "sublayer_removed" in out
    assert "gate_0" not in out


def test_a_task_is_looked_at_on_itself(ddl, tmp_path):
    sizes = ["--model.d-model", "16", "--model.num-layers", "1", "--model.num-heads", "2", "--train.batch-size", "2"]
    code, _, err = ddl(
        "train", "--variants", "ddl", "--data", "synth:parity", "--out", "r", *sizes, "--train.max-steps", 1
    )
    assert code == 0, err
    code, out, err = ddl("inspect", "r/ddl", "--tokens", 300, "--only", "gate_0")
    assert (code, err) == (0, "")
    assert "synth:parity" in out
    assert "asked" in out
    assert ddl("inspect", "r/ddl", "--split", "train")[0] == 2


def test_places_are_shown(ddl, trained, few):
    code, out, _ = ddl("inspect", "run/ddl-cc", *few, "--places", "blocks.0.mlp.hook_*", "--places", "*resid_post")
    assert code == 0
    assert "blocks.0.mlp.hook_beta" in out
    assert "1 × 16 × 16 × 4" in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 3, "nothing to look at"),
        (["nowhere"], 4, "there is no checkpoint"),
        (["run"], 4, "several checkpoints; give one of run/baseline, run/ddl-cc"),
        (["run/ddl-cc", "--data", "empty.txt"], 3, "empty.txt is empty"),
        (["run/ddl-cc", "--tokens", "0"], 2, "--tokens must be at least 1, got 0"),
        (["run/ddl-cc", "--seed", "-1"], 2, "--seed must be from 0 to 2^63 - 1, got -1"),
        (["run/ddl-cc", "--layers", "1"], 2, "--layers 1: the model has the layers 0 to 0"),
        (["run/ddl-cc", "--layers", "x"], 2, "--layers must be numbers and ranges"),
        (["run/ddl-cc", "--layers", "2-1"], 2, "--layers must be numbers and ranges"),
        (["run/ddl-cc", "--only", "gate_men"], 2, "unknown change 'gate_men' (did you mean 'gate_mean'?)"),
        (["run/baseline", "--only", "gate_0"], 2, "residual additive has nothing for --only gate_0"),
        (["run/ddl-cc", "--places", "blocks.0.mlp.hook_bet"], 2, "blocks.0.mlp has hook_k, hook_v, hook_beta"),
        (["run/ddl-cc", "--intervention", "missing.json"], 2, "missing.json"),
        (["run/ddl-cc", "--intervention", "empty.txt"], 2, "empty.txt is no JSON"),
        (["run/ddl-cc", "--intervention", "none.json"], 2, "none.json has no intervention in it"),
        (["run/ddl-cc", "--intervention", "bad.json"], 2, "bad.json: what"),
        (["run/ddl-cc", "--data", "synth:parity"], 3, "does not know the symbols"),
        (["run/ddl-cc", "--save", "no/x.json"], 2, "--save no/x.json: there is no folder"),
        (["damaged"], 4, "is damaged"),
    ],
    ids=str,
)
def test_what_cannot_be_looked_at_is_one_line(arguments, code, says, ddl, trained, text):
    (trained.parent / "empty.txt").touch()
    (trained.parent / "none.json").write_text("[]")
    (trained.parent / "bad.json").write_text('[{"what": "gate_7"}]')
    if arguments == ["damaged"]:
        shutil.copytree(next((trained / "ddl-cc/checkpoints").glob("step-*")), "damaged")
        weights = trained.parent / "damaged/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    found, out, err = ddl("inspect", "--data", text, "--tokens", 16, "--quick", *arguments)
    assert found == code, err
    assert says in err
    if code:
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith("ddl: error: ")
