"""AdamW, and which parameters decay."""

from __future__ import annotations

import torch
from torch import nn

from deep_delta.training.config import TrainingConfig

_FUSED = ("cpu", "cuda")
"""Devices for which PyTorch has a fused AdamW."""


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the model's parameters, which must be on their device already; the loop sets the rate at each step.

    Weights of `nn.Linear` and `nn.Embedding` decay; convolutions, compressors, norms and biases do not.
    """
    decayed, others = decay_groups(model)
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=next(model.parameters()).device.type in _FUSED,
    )


def decay_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters that decay and those that do not, each once, in the model's order."""
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trainable if id(parameter) in matrices]
    others = [parameter for parameter in trainable if id(parameter) not in matrices]
    return decayed, others
