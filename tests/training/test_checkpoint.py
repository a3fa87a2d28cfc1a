"""A run goes on from a checkpoint as if it had never stopped; nothing in a checkpoint is used unless it fits."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from deep_delta.data.tokenizer import byte_tokenizer
from deep_delta.errors import CheckpointError, ConfigError, DataError, StorageError
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import VARIANTS
from deep_delta.runs.checkpoint_files import verify
from deep_delta.runs.layout import BEST, resolve_checkpoint
from deep_delta.runs.manifest import DataIdentity, FileEntry, read_manifest
from deep_delta.runs.storage import TEMPORARY, hash_regular
from deep_delta.training.checkpoint import (
    TrainState,
    checkpoint_bytes,
    load_checkpoint,
    restore,
    save_checkpoint,
)
from deep_delta.training.config import TrainingConfig
from deep_delta.training.optimizer import build_optimizer
from tests.training.tiny import tiny_config, tiny_training

DATA = DataIdentity(name="text", sha256="0" * 64, tokenizer="byte", tokenizer_sha256="1" * 64)
FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "report.json", "tokenizer.json"]
IDS = torch.arange(12)[None]


@dataclass
class Toy:
    """A run in which every part of the state changes the numbers that follow."""

    model: DdlTransformer
    optimizer: torch.optim.Optimizer
    state: TrainState
    training: TrainingConfig

    @classmethod
    def build(cls, variant: str = "ddl-cc", *, training: TrainingConfig | None = None, **fields: Any) -> Toy:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        training = training or tiny_training()
        model = DdlTransformer(tiny_config(variant, **fields))
        return cls(model, build_optimizer(model, training), TrainState(), training)

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.9
        ids = (torch.arange(12)[None] * (self.state.micro_step + 3) + self.state.step) % 257
        noise = torch.rand(()) + np.random.random() + random.random()  # noqa: NPY002
        self.optimizer.zero_grad()
        loss = self.model.loss(ids[:, :-1], ids[:, 1:])
        (loss * noise).backward()
        self.optimizer.step()
        self.state.step += 1
        self.state.micro_step += 2
        self.state.tokens_seen += 11
        self.state.record_validation(8.0 + (self.state.step - 2) ** 2, self.model)

    def save(self, checkpoints: Path, **changes: Any) -> Path:
        return save_checkpoint(
            checkpoints,
            variant="ddl-cc",
            model=self.model,
            optimizer=self.optimizer,
            state=self.state,
            training=changes.pop("training", self.training),
            tokenizer=byte_tokenizer(),
            data=DATA,
            report={"step": self.state.step},
        )

    def resume(self, path: Path, **changes: Any) -> Toy:
        given = {"model": self.model, "optimizer": self.optimizer, "training": self.training, "data": DATA} | changes
        self.state = restore(path, **given)
        return self

    def everything(self, checkpoints: Path) -> dict[str, bytes]:
        folder = self.save(checkpoints)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trained(steps: int, variant: str = "ddl-cc", **fields: Any) -> Toy:
    toy = Toy.build(variant, **fields)
    for _ in range(steps):
        toy.step()
    return toy


def reseal(folder: Path, **fields: Any) -> None:
    """Give a tampered folder a manifest that fits it, as someone who wants to be believed would."""
    manifest = read_manifest(folder)
    files = {}
    for name in manifest.files:
        size, sha256 = hash_regular(folder / name)
        files[name] = FileEntry(size=size, sha256=sha256)
    (folder / "manifest.json").write_bytes(manifest.model_copy(update={"files": files, **fields}).to_bytes())


@pytest.fixture
def straight(tmp_path: Path) -> dict[str, bytes]:
    """Six steps without a stop."""
    return trained(6).everything(tmp_path / "straight")


@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_a_resumed_run_equals_one_that_never_stopped(stop: int, straight: dict[str, bytes], tmp_path: Path) -> None:
    path = trained(stop).save(tmp_path / "first")
    torch.randn(3), np.random.random(3), random.random()  # noqa: NPY002
    toy = Toy.build().resume(path)
    for _ in range(6 - stop):
        toy.step()
    assert toy.everything(tmp_path / "second") == straight


def lose_best(toy: Toy) -> None:
    toy.state = replace(toy.state, best_loss=None, best_step=None, best_weights=None)


def lose_rate(toy: Toy) -> None:
    for group in toy.optimizer.param_groups:
        group["lr"] = toy.training.learning_rate


FORGETFUL: dict[str, Callable[[Toy], object]] = {
    "torch's generator": lambda toy: torch.manual_seed(5),
    "numpy's generator": lambda toy: np.random.seed(5),  # noqa: NPY002
    "Python's generator": lambda toy: random.seed(5),
    "moments": lambda toy: toy.optimizer.state.clear(),
    "step": lambda toy: setattr(toy.state, "step", 0),
    "data position": lambda toy: setattr(toy.state, "micro_step", 0),
    "tokens seen": lambda toy: setattr(toy.state, "tokens_seen", 0),
    "best so far": lose_best,
    "schedule": lose_rate,
    "weights": lambda toy: toy.model.embedding.reset_parameters(),
}


@pytest.mark.parametrize("what", FORGETFUL)
def test_a_resume_that_forgets_anything_is_caught(what: str, straight: dict[str, bytes], tmp_path: Path) -> None:
    toy = Toy.build().resume(trained(3).save(tmp_path / "first"))
    FORGETFUL[what](toy)
    for _ in range(6 - toy.state.step):
        toy.step()
    assert toy.everything(tmp_path / "second") != straight


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loaded_model_gives_the_same_logits(variant: str, tie_embeddings: bool, tmp_path: Path) -> None:
    fields = {"d_value": 2} if variant not in ("baseline", "ddl") else {}
    toy = trained(1, variant, tie_embeddings=tie_embeddings, **fields)
    path = toy.save(tmp_path)
    before = torch.get_rng_state()
    model, tokenizer, manifest = load_checkpoint(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.config == toy.model.config
    assert not model.training
    assert torch.equal(model(IDS), toy.model(IDS))
    assert tokenizer.encode("né") == byte_tokenizer().encode("né")
    assert (manifest.step, manifest.data) == (1, DATA)
    assert TrainingConfig(**manifest.training) == toy.training


def test_the_best_weights_are_those_of_the_best_step(tmp_path: Path) -> None:
    toy = trained(2)
    expected = toy.model(IDS)
    for _ in range(2):
        toy.step()
    path = toy.save(tmp_path)
    assert toy.state.best_step == 2
    assert toy.state.best_weights == path / BEST
    model, _, manifest = load_checkpoint(path / BEST)
    assert (manifest.step, manifest.kind) == (2, BEST)
    assert torch.equal(model(IDS), expected)

    toy.step()
    following = toy.save(tmp_path)
    file = f"{BEST}/model.safetensors"
    assert (following / file).stat().st_ino == (path / file).stat().st_ino


def test_the_best_step_itself_shares_the_model_file(tmp_path: Path) -> None:
    path = trained(2).save(tmp_path)
    assert (path / BEST / "model.safetensors").samefile(path / "model.safetensors")


def test_a_validation_counts_only_when_it_is_better_and_finite() -> None:
    toy = Toy.build()
    assert toy.state.record_validation(3.0, toy.model)
    for loss in (3.0, 4.0, float("nan"), float("inf"), float("-inf")):
        assert not toy.state.record_validation(loss, toy.model)
    assert (toy.state.best_loss, toy.state.best_step) == (3.0, 0)
    assert toy.state.record_validation(2.0, toy.model)
    kept = toy.state.best_weights["embedding.weight"].clone()
    with torch.no_grad():
        toy.model.embedding.weight.add_(1)
    assert torch.equal(toy.state.best_weights["embedding.weight"], kept)


def test_only_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    toy = Toy.build(training=tiny_training(keep_checkpoints=2))
    for _ in range(4):
        toy.step()
        toy.save(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["LATEST", "step-3", "step-4"]
    assert load_checkpoint(tmp_path / "LATEST")[2].step == 4


def test_a_run_may_go_on_longer_but_not_on_other_data_or_in_another_order(tmp_path: Path) -> None:
    path = trained(3).save(tmp_path)
    assert Toy.build().resume(path, training=tiny_training(max_steps=9, learning_rate=1e-4)).state.step == 3
    for field, value in [("seed", 1), ("batch_size", 3), ("accumulation_steps", 2), ("seq_len", 8)]:
        with pytest.raises(ConfigError, match=rf"{field} must stay .*, got {value}; resume without changing it"):
            Toy.build().resume(path, training=tiny_training(**{field: value}))
    with pytest.raises(ConfigError, match="mlp_hidden must stay 43"):
        Toy.build(mlp_hidden=44).resume(path)
    for change in ({"sha256": "2" * 64}, {"tokenizer_sha256": "2" * 64}):
        with pytest.raises(DataError, match=r"resume with the same data and tokenizer"):
            Toy.build().resume(path, data=DATA.model_copy(update=change))
    with pytest.raises(DataError, match=r"step-3 was trained on sequences of text in layout 1, .* makes layout 2"):
        Toy.build().resume(path, data=DATA.model_copy(update={"layout": 2}))
    with pytest.raises(CheckpointError, match="weights only, so training cannot resume"):
        Toy.build().resume(path / BEST)


def edit_tensors(name: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        tensors = {key: tensor.clone() for key, tensor in safetensors.torch.load_file(folder / name).items()}
        edit(tensors)
        (folder / name).write_bytes(safetensors.torch.save(tensors))

    return tamper


def edit_state(**fields: Any) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        for name, value in fields.items():
            *outer, last = name.split("__")
            target = state
            for key in outer:
                target = target[key]
            target[last] = value
        (folder / "state.json").write_text(json.dumps(state))

    return tamper


class Evil:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("executed",)


def pickled(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Evil()))


NORM = "norm.weight"
TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "lacking weight": (edit_tensors("model.safetensors", lambda t: t.pop(NORM)), f"lacks '{NORM}'"),
    "extra weight": (edit_tensors("model.safetensors", lambda t: t.update(extra=torch.ones(1))), "has 'extra'"),
    "wrong shape": (
        edit_tensors("model.safetensors", lambda t: t.update({NORM: torch.ones(4)})),
        r"\[16\].*got.*\[4\]",
    ),
    "wrong dtype": (edit_tensors("model.safetensors", lambda t: t.update({NORM: t[NORM].half()})), "got torch.float16"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "not a safetensors file"),
    "pickled weights": (pickled("model.safetensors"), "not a safetensors file"),
    "pickled moments": (pickled("optimizer.safetensors"), "not a safetensors file"),
    "pickled state": (pickled("state.json"), "state.json"),
    "no moments": (edit_tensors("optimizer.safetensors", lambda t: t.clear()), "same moments"),
    "one moment less": (edit_tensors("optimizer.safetensors", lambda t: t.pop(f"{NORM}:exp_avg")), "same moments"),
    "a moment of nothing": (
        edit_tensors("optimizer.safetensors", lambda t: t.update({"x:y": torch.ones(1)})),
        "x:y",
    ),
    "a moment's shape": (
        edit_tensors("optimizer.safetensors", lambda t: t.update({f"{NORM}:exp_avg": torch.ones(3)})),
        NORM,
    ),
    "another optimiser": (edit_state(optimizer="SGD"), "SGD"),
    "another number of groups": (edit_state(learning_rates=[0.1]), "1 parameter groups"),
    "a step below zero": (edit_state(step=-1), "step"),
    "true for a step": (edit_state(step=True), "step"),
    "an unknown field": (edit_state(speed=1), "unknown field 'speed'"),
    "a generator's length": (edit_state(rng__torch_cpu="AAAA"), "rng"),
    "a generator's words": (edit_state(rng__python__key="AAAA"), "rng.python.key"),
    "a best step out of nowhere": (edit_state(best_step=None), "do not agree"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_checkpoint_made_to_look_whole_is_still_refused(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tamper, problem = TAMPERED[what]
    path = trained(3).save(tmp_path / "checkpoints")
    tamper(path)
    reseal(path)
    assert verify(path)
    with pytest.raises(CheckpointError, match=problem) as caught:
        Toy.build().resume(path)
    assert len(str(caught.value).splitlines()) == 1
    if "weight" in what or what.startswith("wrong"):
        with pytest.raises(CheckpointError, match=problem):
            load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"head_dim": 7}, "head_dim must be even"),
        ({"num_layers": True}, "num_layers"),
        ({"num_layers": 2}, "lacks 'blocks.1"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ],
    ids=str,
)
def test_a_configuration_that_is_none_is_refused(fields: dict, problem: str, tmp_path: Path) -> None:
    path = trained(1).save(tmp_path)
    reseal(path, model=read_manifest(path).model | fields)
    with pytest.raises(CheckpointError, match=problem):
        load_checkpoint(path)


def test_a_checkpoint_that_holds_derived_widths_as_numbers_loads_and_resumes(tmp_path: Path) -> None:
    path = trained(1).save(tmp_path)
    model = read_manifest(path).model
    assert (model["head_dim"], model["mlp_hidden"]) == (None, None)
    reseal(path, model=model | {"head_dim": 8, "mlp_hidden": 43})
    assert load_checkpoint(path)[0].config == Toy.build().model.config
    assert Toy.build().resume(path).state.step == 1
    reseal(path, model=model | {"head_dim": 8, "mlp_hidden": 44})
    with pytest.raises(ConfigError, match="mlp_hidden must stay 44"):
        Toy.build().resume(path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_checkpoint_without_a_needed_file_says_which(name: str, tmp_path: Path) -> None:
    path = trained(1).save(tmp_path)
    files = {other: entry for other, entry in read_manifest(path).files.items() if other != name}
    (path / "manifest.json").write_bytes(read_manifest(path).model_copy(update={"files": files}).to_bytes())
    with pytest.raises(CheckpointError, match=rf"has no {name}: it is incomplete"):
        load_checkpoint(path)


def flip_bits(path: Path, flips: int) -> None:
    drawn = random.Random(1)
    folder = path.parent.parent if path.parent.name == BEST else path.parent
    good = path.read_bytes()
    for _ in range(flips):
        bad = bytearray(good)
        bad[drawn.randrange(len(good))] ^= 1 << drawn.randrange(8)
        path.unlink()  # the file may have a second name
        path.write_bytes(bad)
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)
    path.write_bytes(good)
    load_checkpoint(folder)


@pytest.mark.parametrize("name", [*FILES, "manifest.json", f"{BEST}/model.safetensors", f"{BEST}/manifest.json"])
@pytest.mark.parametrize("flips", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_flipped_bits_are_detected(name: str, flips: int, tmp_path: Path) -> None:
    flip_bits(trained(2).save(tmp_path) / name, flips)


def test_a_disk_that_fills_up_at_any_size_loses_nothing(tmp_path: Path) -> None:
    toy = trained(3)
    first = toy.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    toy.step()
    largest = max(len(content) for content in before.values())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for cut in range(20):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest * cut // 20, hard))
        try:
            with pytest.raises(StorageError, match="File too large") as caught:
                toy.save(tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(str(caught.value).splitlines()) == 1
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert not any(entry.name.startswith(TEMPORARY) for entry in tmp_path.iterdir())
    assert resolve_checkpoint(tmp_path) == first
    assert toy.save(tmp_path).name == "step-4"


def test_the_bytes_that_a_run_may_need_are_not_underestimated(tmp_path: Path) -> None:
    toy = Toy.build(training=tiny_training(keep_checkpoints=2))
    for _ in range(3):
        toy.step()
        toy.save(tmp_path)
    files = {path.stat().st_ino: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert sum(files.values()) < checkpoint_bytes(toy.model, toy.training) < 40e6
