"""Every variant learns what can be learnt: a shifted label or a leak between positions would show here."""

from __future__ import annotations

from pathlib import Path

import pytest

from deep_delta.data.tokens import Dataset, prepare
from deep_delta.models.variants import VARIANTS
from deep_delta.training.run import train
from tests.training.tiny import tiny_config, tiny_training

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def successors(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Dataset:
    """Each character is always followed by the same other one."""
    path = tmp_path_factory.mktemp("text") / "alphabet.txt"
    path.write_text(ALPHABET * 60)
    return prepare(str(path), "byte")


@pytest.mark.parametrize("variant", VARIANTS)
def test_constant_successors_are_learnt_to_zero_loss(variant: str, successors: Dataset, tmp_path: Path):
    training = tiny_training(
        max_steps=200, batch_size=4, learning_rate=1e-2, warmup_steps=10, weight_decay=0.0, eval_interval=200
    )
    config = tiny_config(variant, d_model=32, tie_embeddings=False)
    found = train({variant: config}, training, successors, tmp_path / "run")
    assert found.runs[0].best_loss < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_kilobytes_of_text_are_memorised(variant: str, text_file: Path, tmp_path: Path):
    path = tmp_path / "short.txt"
    path.write_text(text_file.read_text()[:2000])
    training = tiny_training(max_steps=600, batch_size=16, seq_len=32, learning_rate=1e-2, warmup_steps=50)
    config = tiny_config(variant, d_model=64, num_layers=2, num_heads=4, max_seq_len=32)
    training = training.model_copy(update={"eval_interval": 600, "weight_decay": 0.0})
    found = train({variant: config}, training, prepare(str(path), "byte"), tmp_path / "run")
    assert found.runs[0].curve[-1].loss < 0.2
