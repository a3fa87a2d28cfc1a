"""Models of the paper authors' released code, as `DdlTransformer`s and back: their names, layouts and configuration.

The source is the PyTorch code beside arXiv 2601.00417. Its six models (additive, scalar, token and channel compression,
the latter two with and without the embedding convolution) are recognised by the names of their parameters. They are the
same functions as ours: `value_source` state, a value with a bias, and a channel compressor in two factors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.integrations.released_config import CodeName, our_config, require_form, their_config
from deep_delta.integrations.released_folder import read_released
from deep_delta.integrations.released_layout import entries
from deep_delta.models.modes import usual_defaults
from deep_delta.models.transformer import DdlTransformer

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"


def load_released(
    folder: str | Path, *, code: CodeName | None = None, max_seq_len: int | None = None
) -> DdlTransformer:
    """The model in a folder that holds their config.json and model.safetensors (or its shards and their index).

    See `model_from_released`. A pickle (pytorch_model.bin) is refused and never opened.
    CheckpointError, naming the file or the folder, for whatever cannot be loaded.
    """
    config, parameters = read_released(Path(folder))
    try:
        return model_from_released(config, parameters, code=code, max_seq_len=max_seq_len)
    except (ConfigError, CheckpointError) as error:
        raise CheckpointError(f"{folder}: {error}") from None


def model_from_released(
    config: Mapping[str, Any],
    parameters: Mapping[str, Tensor],
    *,
    code: CodeName | None = None,
    max_seq_len: int | None = None,
) -> DdlTransformer:
    """The model that the released code would build from `config` and `parameters`; it computes what theirs computes.

    Their loss ignores targets of −1, ours those of −100.

    Args:
        config: their configuration as a dictionary (the JSON of a checkpoint).
        parameters: tensors by their names, `transformer.h.0.attn.c_q.weight` and so on; a tied `lm_head.weight` may be
            among them, or stand for `transformer.wte.weight`. Parameters become fp32.
        code: which of their files a model with channel compression is of: "plain", or "accelerated", which gives some
            options another meaning (see `CodeName`). None: what the configuration's `auto_map` names, else "plain".
        max_seq_len: the longest sequence, where it is to be another than `block_size`, which they do not enforce.

    Raises:
        ConfigError: an option is active that changes the function in a way this library does not have; it is named.
        CheckpointError: a parameter is missing, left over, or of another shape.
    """
    parameters = _without_tied_head(parameters)
    with torch.random.fork_rng(devices=[]), usual_defaults():
        model = DdlTransformer(our_config(config, parameters, code, max_seq_len))
    ours = dict(model.named_parameters())
    unread = set(parameters)
    with torch.no_grad():
        for entry in entries(model.config):
            missing = [name for name in entry.theirs if name not in parameters]
            if missing:
                raise CheckpointError(f"released parameters: {missing[0]} is missing")
            unread.difference_update(entry.theirs)
            if entry.ours is None:
                continue
            target = ours.pop(entry.ours)
            parts = [parameters[name] for name in entry.theirs]
            expected = [part.shape for part in entry.split(target, model.config)]
            for name, part, shape in zip(entry.theirs, parts, expected, strict=True):
                if part.shape != shape or not part.is_floating_point():
                    raise CheckpointError(
                        f"released parameters: shape and type of {name} do not fit the configuration: "
                        f"{part.dtype} {list(part.shape)} instead of {list(shape)}"
                    )
            target.copy_(entry.join(parts, model.config))
    assert not ours, f"parameters without a released name: {sorted(ours)}"
    if unread:
        raise CheckpointError(f"released parameters: {min(unread)} belongs to no part of this model")
    return model


def released_config(model: DdlTransformer) -> dict[str, Any]:
    """The configuration with which the released code builds this model; `model_from_released` takes it back.

    Raises `ConfigError`, naming what differs, for a model that the released code does not have.
    """
    return their_config(model.config)


def released_parameters(model: DdlTransformer) -> dict[str, Tensor]:
    """The parameters of such a model under the released code's names and in its layouts: copies, ready to be saved.

    Equal to the bit to what the model was loaded from, where that was fp32. The head is tied, so it is not repeated; a
    value projection that stands idle beside a constant value is zero.
    Raises `ConfigError`, naming what differs, for a model that the released code does not have.
    """
    found = _in_their_layout(model, lambda parameter: parameter.detach())
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}


def released_gradients(model: DdlTransformer) -> dict[str, Tensor]:
    """The gradients of such a model under the released code's names and in its layouts.

    A parameter that the loss does not reach (the value projection beside a constant value) has a gradient of zeros.
    Raises `ConfigError`, naming what differs, for a model that the released code does not have.
    """
    return _in_their_layout(
        model, lambda parameter: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    )


def _in_their_layout(model: DdlTransformer, tensor_of: Callable[[nn.Parameter], Tensor]) -> dict[str, Tensor]:
    config = model.config
    require_form(config)
    ours = dict(model.named_parameters())
    found: dict[str, Tensor] = {}
    for entry in entries(config):
        if entry.ours is None:
            found.update((name, _idle(name, model)) for name in entry.theirs)
            continue
        if entry.ours not in ours:
            raise ConfigError(f"the released code has no model like this one: it lacks {entry.ours}")
        found.update(zip(entry.theirs, entry.split(tensor_of(ours.pop(entry.ours)), config), strict=True))
    if ours:
        raise ConfigError(f"the released code has no model like this one: it has no {min(ours)}")
    return found


def _idle(name: str, model: DdlTransformer) -> Tensor:
    """Zeros for a parameter of the value projection that stands idle beside a constant value."""
    V, D = model.config.d_value, model.config.d_model
    return model.embedding.weight.new_zeros((V, D) if name.endswith("weight") else (V,))


def _without_tied_head(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters with the embedding under its one name. CheckpointError when the head is another matrix."""
    found = dict(parameters)
    head = found.pop(_HEAD, None)
    if head is not None and not torch.equal(head, found.setdefault(_EMBEDDING, head)):
        raise CheckpointError(f"released parameters: {_HEAD} differs from {_EMBEDDING}, but they are tied")
    return found
