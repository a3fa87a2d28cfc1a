from __future__ import annotations

import pytest
import torch
from torch import nn

from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import VARIANTS
from deep_delta.training.optimizer import build_optimizer, decay_groups
from tests.training.tiny import tiny_config, tiny_training


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_matrices_decay_and_nothing_else(variant: str, tied: bool):
    model = DdlTransformer(tiny_config(variant, tie_embeddings=tied))
    owners = {
        f"{name}.{own}": type(module)
        for name, module in model.named_modules()
        for own, _ in module.named_parameters(recurse=False)
    }
    decayed = {id(parameter) for parameter in decay_groups(model)[0]}
    for name, parameter in model.named_parameters():
        matrix = issubclass(owners[name], nn.Linear | nn.Embedding) and name.endswith("weight")
        assert (id(parameter) in decayed) is matrix, name


def test_every_parameter_is_in_one_group_once():
    model = DdlTransformer(tiny_config("ddl-ec"))
    groups = decay_groups(model)
    assert sorted(map(id, [*groups[0], *groups[1]])) == sorted(map(id, model.parameters()))


def test_frozen_parameters_are_left_out():
    model = DdlTransformer(tiny_config())
    model.embedding.weight.requires_grad_(False)
    assert all(parameter is not model.embedding.weight for group in decay_groups(model) for parameter in group)


def test_one_step_is_adamw_by_hand():
    training = tiny_training(learning_rate=0.1, weight_decay=0.5, beta1=0.9, beta2=0.95, epsilon=1e-5)
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(2.0)
    optimizer = build_optimizer(layer, training)
    layer.weight.grad, layer.bias.grad = torch.tensor([[3.0]]), torch.tensor([3.0])
    optimizer.step()
    update = 0.1 * 3.0 / (3.0 + 1e-5)  # first step: the moments, corrected for their bias, are g and g²
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - update)
    assert layer.bias.item() == pytest.approx(2.0 - update)
