import json

import pytest
import safetensors.torch
import torch

from deep_delta import load_checkpoint
from deep_delta.data.tokenizer import byte_tokenizer
from deep_delta.integrations.released_code import load_released, released_parameters
from tests.integrations.released_oracle import BASE, draw_parameters

CONFIG = BASE | {"vocab_size": 260, "block_size": 64}


KINDS = {"baseline": "baseline", "scalar": "ddl", "tc": "ddl-tokenconv", "tc-ec": "ddl-ec", "cc": "ddl-cc"}
KINDS |= {"cc-ec": "ddl-cc-ec"}


def save(folder, config, kind):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(draw_parameters(config, kind, seed=0), folder / "model.safetensors")


@pytest.fixture
def theirs(tmp_path):
    """Two models as they are saved, the first one with a tokenizer."""
    save(tmp_path / "with", CONFIG, "cc-ec")
    byte_tokenizer().save(tmp_path / "with" / "tokenizer.json")
    save(tmp_path / "without", CONFIG, "cc")
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_every_model_becomes_a_checkpoint_that_computes_the_same(kind, ddl, tmp_path):
    save(tmp_path / "theirs", CONFIG, kind)
    code, out, err = ddl("import", "released", "theirs", "--out", "made", "--tokenizer", "byte")
    assert (code, err) == (0, "")
    assert out.startswith(f"made: {KINDS[kind]}, ")
    model, tokenizer, manifest = load_checkpoint(tmp_path / "made")
    ids = torch.arange(30).unsqueeze(0)
    assert torch.equal(model(ids), load_released(tmp_path / "theirs")(ids))
    assert (manifest.variant, manifest.step, tokenizer.name) == (KINDS[kind], 0, "byte")
    written = released_parameters(model)
    assert all(torch.equal(written[name], tensor) for name, tensor in draw_parameters(CONFIG, kind, 0).items())


def test_the_other_commands_take_it(ddl, theirs, text):
    assert ddl("import", "released", "with", "--out", "made")[0] == 0
    code, out, err = ddl("generate", "made", "--prompt", "def ", "--max-new-tokens", 80)
    assert (code, err) == (0, "")
    assert out.startswith("def ")
    code, out, err = ddl("compare", "made", "--data", text, "--max-bytes", 300)
    assert (code, err) == (0, "")
    assert "ddl-cc-ec" in out
    code, _, err = ddl("train", "--resume", "made", "--data", text)
    assert (code, err.count("\n")) == (4, 1)


def test_the_code_and_the_length_are_chosen(ddl, theirs):
    assert ddl("import", "released", "with", "--out", "made", "--code", "accelerated", "--max-seq-len", 99)[0] == 0
    config = load_checkpoint(theirs / "made")[0].config
    assert config == load_released(theirs / "with", code="accelerated", max_seq_len=99).config
    assert config != load_released(theirs / "with", max_seq_len=99).config
    code, _, _ = ddl("import", "released", "without", "--out", "other", "--tokenizer", "with/tokenizer.json")
    assert (code, load_checkpoint(theirs / "other")[1].name) == (0, "byte")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["without"], 2, "without has no tokenizer.json; give the one that the model was trained with as --tokenizer"),
        (["without", "--tokenizer", "none.json"], 3, "cannot read tokenizer none.json"),
        (["without", "--tokenizer", "with/config.json"], 3, "tokenizer with/config.json is not a tokenizer.json"),
        (["nowhere"], 4, "there is no folder nowhere"),
        (["empty", "--tokenizer", "byte"], 4, "empty/config.json is missing"),
        (["pickled", "--tokenizer", "byte"], 4, "pickled/pytorch_model.bin is a pickle"),
        (["gated", "--tokenizer", "byte"], 4, "gated: released configuration: option use_output_gate = True"),
        (["small", "--tokenizer", "byte"], 2, "the model knows 23 tokens and the tokenizer has 257"),
        (["with", "--max-seq-len", "0"], 2, "--max-seq-len must be at least 1, got 0"),
        (["with", "--code", "fast"], 2, "--code: invalid choice: 'fast'"),
    ],
    ids=str,
)
def test_what_cannot_be_imported_is_said_in_one_line_and_leaves_nothing(arguments, code, says, ddl, theirs):
    save(theirs / "gated", CONFIG | {"use_output_gate": True}, "cc")
    save(theirs / "small", BASE, "cc")
    for name in ("empty", "pickled"):
        (theirs / name).mkdir()
    (theirs / "pickled" / "config.json").write_text(json.dumps(CONFIG))
    (theirs / "pickled" / "pytorch_model.bin").write_bytes(b"")
    before = sorted(theirs.iterdir())
    got, out, err = ddl("import", "released", *arguments, "--out", "made")
    assert (got, out) == (code, "")
    assert err.startswith(f"ddl: error: {says}")
    assert err.count("\n") == 1
    assert sorted(theirs.iterdir()) == before


def test_what_is_there_already_stays(ddl, theirs):
    (theirs / "made").mkdir()
    assert ddl("import", "released", "with", "--out", "made")[0] == 0
    before = (theirs / "made" / "manifest.json").read_bytes()
    code, _, err = ddl("import", "released", "with", "--out", "made")
    assert (code, err) == (2, "ddl: error: made exists and is not empty; choose another --out\n")
    assert (theirs / "made" / "manifest.json").read_bytes() == before


def test_another_source_is_refused(ddl, theirs):
    code, _, err = ddl("import", "relesed", "with", "--out", "other")
    assert (code, err.split(";")[0]) == (2, "ddl: error: unknown source 'relesed' (did you mean 'released'?)")
