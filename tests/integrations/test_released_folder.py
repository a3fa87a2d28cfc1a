"""Folders as transformers saves them: one file or shards, links, and whatever else may lie there."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from deep_delta.errors import CheckpointError
from deep_delta.integrations.released_code import load_released, model_from_released
from tests.integrations.released_oracle import BASE, draw_parameters

PARAMETERS = draw_parameters(BASE, "cc-ec", seed=0)
IDS = torch.arange(11).unsqueeze(0)
INDEX = "model.safetensors.index.json"


def save(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BASE | {"architectures": ["GPT"], "eos_token_id": 3}))
    safetensors.torch.save_file(PARAMETERS, folder / "model.safetensors")
    return folder


def save_shards(folder: Path) -> Path:
    save(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(PARAMETERS)
    places = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)}
    for file in set(places.values()):
        shard = {name: PARAMETERS[name] for name in names if places[name] == file}
        safetensors.torch.save_file(shard, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder


def linked(folder: Path) -> Path:
    """As in a download cache: every name is a link to a file elsewhere."""
    source = save(folder.with_name("blobs"))
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).symlink_to(Path("..") / "blobs" / file.name)
    return folder


@pytest.mark.parametrize("make", [save, save_shards, linked], ids=lambda make: make.__name__)
def test_a_folder_is_its_configuration_and_its_parameters(make: Callable[[Path], Path], tmp_path: Path) -> None:
    model = load_released(make(tmp_path / "model"))
    assert torch.equal(model(IDS), model_from_released(BASE, PARAMETERS)(IDS))


def test_the_code_and_the_length_are_passed_on(tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    assert load_released(str(folder), max_seq_len=40).config.max_seq_len == 40
    config = load_released(folder, code="accelerated").config
    assert config == model_from_released(BASE, PARAMETERS, code="accelerated").config
    (folder / "config.json").write_text(json.dumps(BASE | {"auto_map": {"AutoModel": "x-accelerated.GPT"}}))
    assert load_released(folder).config == config


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "checkpoint.pth", "model.safetensors"])
def test_a_pickle_is_named_and_never_opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = save(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Evil()))
    problem = "not a safetensors file" if name == "model.safetensors" else "is a pickle, which can run code"
    with pytest.raises(CheckpointError, match=f"{name} is {problem.removeprefix('is ')}"):
        load_released(folder)
    assert not (tmp_path / "executed").exists()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def pipe(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-7])


def index(**places: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / INDEX).read_text())
        content["weight_map"] |= places
        (folder / INDEX).write_text(json.dumps(content))

    return edit


DAMAGED: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], str]] = {
    "no configuration": (save, lambda folder: (folder / "config.json").unlink(), r"config\.json is missing"),
    "a configuration that is no JSON": (save, write("config.json", "{"), r"config\.json is not JSON"),
    "one of a list": (save, write("config.json", "[]"), r"config\.json must hold one JSON object"),
    "one with a key twice": (save, write("config.json", '{"a": 1, "a": 2}'), "duplicate key 'a'"),
    "one with an unknown option": (save, write("config.json", json.dumps(BASE | {"new": 1})), "option new = 1"),
    "one that is a pipe": (save, pipe("config.json"), r"config\.json is a pipe"),
    "no weights": (save, lambda folder: (folder / "model.safetensors").unlink(), r"holds no model\.safetensors"),
    "weights that are cut": (save, cut("model.safetensors"), r"model\.safetensors is not a safetensors file"),
    "weights that are a pipe": (save, pipe("model.safetensors"), r"model\.safetensors is a pipe"),
    "an index of nothing": (save_shards, write(INDEX, "{}"), "weight_map must give a file for every tensor"),
    "an index of numbers": (save_shards, write(INDEX, '{"weight_map": {"a": 1}}'), "weight_map must give a file"),
    "an index that climbs": (save_shards, index(x="../x.safetensors"), r"names '\.\./x\.safetensors'"),
    "an index that names a pickle": (save_shards, index(x="x.bin"), r"names 'x\.bin', which is no safetensors file"),
    "a shard too few": (save_shards, index(x="y.safetensors"), r"y\.safetensors: No such file"),
    "a tensor too few": (
        save_shards,
        index(**{"ln_g.weight": "model-00001-of-00002.safetensors"}),
        r"model-00001-of-00002\.safetensors lacks 'ln_g\.weight'",
    ),
    "a shard that is cut": (save_shards, cut("model-00002-of-00002.safetensors"), r"00002\.safetensors is not a"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_cannot_be_loaded_is_named_in_one_line(what: str, tmp_path: Path) -> None:
    make, damage, problem = DAMAGED[what]
    folder = make(tmp_path / "model")
    damage(folder)
    with pytest.raises(CheckpointError, match=problem) as caught:
        load_released(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        load_released(tmp_path / "model")
