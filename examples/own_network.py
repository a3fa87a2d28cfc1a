"""Use `DeltaResidual` in a network of your own: a classifier of two interleaved spirals.

    python examples/own_network.py

The block takes a state [..., D, V] and rewrites it along one direction that it chooses itself: X + βk(vᵀ − kᵀX). It
replaces the addition of an ordinary residual block; any number of leading axes will do.
"""

import math

import torch
from torch import Tensor, nn

from deep_delta import DeltaResidual
from deep_delta.spectral import measure

D, V, DEPTH, STEPS = 16, 2, 4, 120


class SpiralNet(nn.Module):
    """Points [N, 2] to logits [N, 2], through a state of D features with V value channels."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(2, D * V)
        self.blocks = nn.ModuleList(DeltaResidual(d_model=D, d_value=V, d_hidden=32) for _ in range(DEPTH))
        self.leave = nn.Linear(D * V, 2)

    def forward(self, points: Tensor) -> Tensor:
        state = self.enter(points).unflatten(-1, (D, V))
        for block in self.blocks:
            state = block(state)
        return self.leave(state.flatten(-2))


def spirals(count: int) -> tuple[Tensor, Tensor]:
    """Points on two spirals, a little noisy, and which of the two each is on."""
    labels = torch.arange(count) % 2
    turn = torch.rand(count).sqrt() * 1.5 * 2 * math.pi
    angle = turn + math.pi * labels
    points = torch.stack([turn * angle.cos(), turn * angle.sin()], dim=-1) / 5
    return points + 0.02 * torch.randn(count, 2), labels


torch.manual_seed(0)
model = SpiralNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
points, labels = spirals(600)
for step in range(1, STEPS + 1):
    loss = nn.functional.cross_entropy(model(points), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 1 or step % 40 == 0:
        print(f"step {step:>4}: loss {loss.item():.3f}")

test_points, test_labels = spirals(600)
accuracy = (model(test_points).argmax(-1) == test_labels).float().mean()
print(f"accuracy on new points: {accuracy:.1%}")

# What each block does to the state, measured: its gate, how far it is from its target before and after.
state = model.enter(test_points).unflatten(-1, (D, V))
for depth, block in enumerate(model.blocks):
    rewritten, k, beta, v = block.forward_with_params(state)
    found = measure(state, k, v, beta)
    share = max(found.regime_share, key=found.regime_share.__getitem__)
    print(
        f"block {depth}: β {found.beta_mean:.2f} ± {found.beta_std:.2f}, mostly {share}; "
        f"‖vᵀ − kᵀX‖ {found.discrepancy_before:.2f} → {found.discrepancy_after:.2f}"
    )
    state = rewritten
