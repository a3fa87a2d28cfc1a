"""Weights that change between two steps of decoding: each step computes with those of its time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deep_delta import DdlTransformer
from tests.models.test_parts_take_effect import CONFIGURATIONS, IDS, build
from tests.tolerances import relative_error


def in_place(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.2)


def behind_the_counter(model: nn.Module) -> None:
    """As optimizers and weight averaging do that write to `data`: PyTorch's version counter does not move."""
    for parameter in model.parameters():
        parameter.data.mul_(1.2)


def in_inference_mode(model: nn.Module) -> None:
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.mul_(1.2)


def loaded(model: nn.Module) -> None:
    model.load_state_dict({name: 1.2 * tensor for name, tensor in model.state_dict().items()})


def assigned(model: nn.Module) -> None:
    model.load_state_dict({name: 1.2 * tensor for name, tensor in model.state_dict().items()}, assign=True)


def decoded(model: DdlTransformer, change: Callable[[nn.Module], None], grad: bool) -> Tensor:
    """With `grad`, by plain operations on the parameters themselves."""
    cache, logits = model.new_cache(2), []
    for piece in IDS.split([3, 1, 1, 3], 1):
        with torch.set_grad_enabled(grad):
            logits.append(model(piece, cache=cache).detach())
        change(model)
    return torch.cat(logits, 1)


@pytest.mark.parametrize("change", [in_place, behind_the_counter, in_inference_mode, loaded, assigned])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_step_of_decoding_takes_the_weights_of_its_time(name: str, change: Callable[[nn.Module], None]) -> None:
    expected = decoded(build(name), change, grad=True)
    assert relative_error(decoded(build(name), change, grad=False), expected) < 1e-5
