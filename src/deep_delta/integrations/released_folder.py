"""A model of the released code in a folder, as transformers saves it: config.json beside safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from deep_delta.errors import CheckpointError
from deep_delta.runs.record import strict_json
from deep_delta.runs.storage import open_regular, read_regular

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_JSON_LIMIT = 1 << 26


def read_released(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the parameters in `folder`; links are followed, as in a download cache.

    CheckpointError names the file that is missing, damaged or a pickle: a pickle can run code and is never opened.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; give the folder that holds {CONFIG} and {WEIGHTS}")
    config = _read_json(folder / CONFIG)
    if (folder / WEIGHTS).exists():
        return config, _read_tensors(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return config, _read_shards(folder)
    pickles = sorted(entry.name for entry in folder.iterdir() if entry.suffix in _PICKLES)
    if pickles:
        raise CheckpointError(
            f"{folder / pickles[0]} is a pickle, which can run code, and is never opened; save the model as {WEIGHTS} "
            "where you trust it, with save_pretrained(…, safe_serialization=True)"
        )
    raise CheckpointError(f"{folder} holds no {WEIGHTS} and no {INDEX}; give the folder of a saved model")


def _read_shards(folder: Path) -> dict[str, Tensor]:
    """All tensors that the index lists; each shard must hold those that the index finds in it, and no other."""
    places = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{folder / INDEX}: weight_map must give a file for every tensor")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{folder / INDEX} names {name!r}, which is no safetensors file beside it")
        shard = _read_tensors(folder / name)
        listed = {tensor for tensor, file in places.items() if file == name}
        if odd := sorted(listed ^ shard.keys()):
            problem = "lacks" if odd[0] in listed else "has"
            raise CheckpointError(f"{folder / name} {problem} {odd[0]!r}, unlike what {INDEX} says")
        tensors |= shard
    return tensors


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with open_regular(path.resolve()):  # a plain file, which a pipe or a device is not
        pass
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}; fetch it again") from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"{path} is missing; give the folder that holds {CONFIG} and {WEIGHTS}")
    try:
        content = strict_json(read_regular(path.resolve(), limit=_JSON_LIMIT))
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not JSON: {error}; fetch it again") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold one JSON object; fetch it again")
    return content
