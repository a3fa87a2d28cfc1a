"""Weights and moments in safetensors files: written whole, read only where every name and shape is as expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from deep_delta.errors import CheckpointError
from deep_delta.runs.checkpoint_files import Writer
from deep_delta.runs.storage import storage_error, write_new


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by state_dict name, the second and further names of a tied one left out."""
    seen: set[tuple] = set()
    unique = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            seen.add(place)
            unique[name] = tensor
    return unique


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors as "<parameter>:<moment>"."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}:{moment}": tensor
        for group in optimizer.param_groups
        for parameter in group["params"]
        for moment, tensor in optimizer.state.get(parameter, {}).items()
    }


def tensors_writer(tensors: Mapping[str, Tensor]) -> Writer:
    """A writer of one safetensors file; tensors are taken to the CPU as it runs. OSError when the disk refuses."""

    def write(path: Path) -> None:
        portable = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        write_new(path, b"")
        mode = path.stat().st_mode  # safetensors replaces the file by one that only its owner may read
        try:
            safetensors.torch.save_file(portable, path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise storage_error(path, str(error)) from None
        path.chmod(mode)

    return write


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file whose sha256 was checked. CheckpointError when it is not in the format."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}; use another checkpoint") from None


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill every parameter and buffer of `model`; CheckpointError unless names, shapes and dtypes are its own."""
    found, wanted = read_tensors(path), unique_tensors(model)
    if odd := sorted(found.keys() ^ wanted.keys()):
        raise CheckpointError(f"{path} {'has' if odd[0] in found else 'lacks'} {odd[0]!r}, unlike the model it names")
    for name, tensor in wanted.items():
        if (found[name].shape, found[name].dtype) != (tensor.shape, tensor.dtype):
            raise CheckpointError(
                f"{path}: {name} must be {tensor.dtype} {list(tensor.shape)}, "
                f"got {found[name].dtype} {list(found[name].shape)}; use another checkpoint"
            )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(found[name])


def load_moments(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    learning_rates: Sequence[float],
    *,
    stepped: bool,
) -> None:
    """Put a freshly built optimiser back to what `moments` gave; `stepped` says whether there must be any.

    CheckpointError when a tensor fits no parameter, parameters differ in their moments, or groups in their number.
    """
    parameters = dict(model.named_parameters())
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(path).items():
        name, _, moment = key.rpartition(":")
        if name not in parameters or tensor.shape not in (parameters[name].shape, ()):
            raise CheckpointError(f"{path}: {key!r} of shape {list(tensor.shape)} fits no parameter of the model")
        found.setdefault(name, {})[moment] = tensor.clone()
    if len({frozenset(kinds) for kinds in found.values()}) != int(stepped):
        raise CheckpointError(f"{path} does not hold the same moments for every parameter; use another checkpoint")

    groups = optimizer.state_dict()["param_groups"]
    if len(groups) != len(learning_rates):
        raise CheckpointError(f"{path} is of {len(learning_rates)} parameter groups, the optimiser has {len(groups)}")
    for group, learning_rate in zip(groups, learning_rates, strict=True):
        group["lr"] = learning_rate
    names = {parameter: name for name, parameter in parameters.items()}
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    state = {index: found[name] for index, name in enumerate(order) if name in found}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
