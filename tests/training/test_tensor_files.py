from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from deep_delta.errors import CheckpointError
from deep_delta.training.tensor_files import load_moments, load_weights, moments, tensors_writer, unique_tensors


class Tied(nn.Module):
    """A matrix under two names, a buffer, an empty parameter and a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.empty, self.void = nn.Parameter(torch.empty(0)), nn.Parameter(torch.empty(0))
        self.turned = nn.Parameter(torch.randn(2, 4).t())
        self.counts: Tensor
        self.register_buffer("counts", torch.arange(3))


def test_tied_weights_are_written_once_and_come_back_tied(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    path = tmp_path / "model.safetensors"
    tensors_writer(unique_tensors(model))(path)
    assert sorted(safetensors.torch.load_file(path)) == ["counts", "embedding.weight", "empty", "turned", "void"]
    with torch.no_grad():
        other.counts.zero_()
    load_weights(path, other)
    assert other.head.weight is other.embedding.weight
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_moments_are_found_by_name_whatever_the_groups(tmp_path: Path) -> None:
    model, path = Tied(), tmp_path / "optimizer.safetensors"
    optimizer = torch.optim.AdamW([model.embedding.weight, model.turned], lr=0.1)
    (model.embedding.weight.sum() + model.turned.sum()).backward()
    optimizer.step()
    tensors_writer(moments(model, optimizer))(path)
    other = torch.optim.AdamW([{"params": [model.turned]}, {"params": [model.embedding.weight]}], lr=0.5)
    load_moments(path, model, other, [0.2, 0.3], stepped=True)
    assert [group["lr"] for group in other.param_groups] == [0.2, 0.3]
    for parameter in (model.embedding.weight, model.turned):
        assert other.state[parameter].keys() == optimizer.state[parameter].keys()
        for name, tensor in optimizer.state[parameter].items():
            assert torch.equal(other.state[parameter][name], tensor), name
    with pytest.raises(CheckpointError, match="is of 1 parameter groups, the optimiser has 2"):
        load_moments(path, model, other, [0.2], stepped=True)


def test_loaded_moments_do_not_live_in_the_file(tmp_path: Path) -> None:
    model, path = Tied(), tmp_path / "optimizer.safetensors"
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    (model.embedding.weight.sum() + model.turned.sum()).backward()
    optimizer.step()
    tensors_writer(moments(model, optimizer))(path)
    before = path.read_bytes()
    load_moments(path, model, optimizer, [0.1], stepped=True)
    optimizer.step()
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        tensors_writer({"a": torch.ones(1)})(tmp_path / "none" / "model.safetensors")


def test_a_saved_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    path, plain = tmp_path / "model.safetensors", tmp_path / "plain"
    tensors_writer({"a": torch.ones(1)})(path)
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
