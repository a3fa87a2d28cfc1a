"""The gated feed-forward sublayer."""

from __future__ import annotations

from torch import Tensor, nn

from deep_delta.nn.parts import ours
from deep_delta.ops.silu_product import silu_product


@ours
class SwiGLU(nn.Module):
    """W_down(silu(W_gate x) ⊙ W_up x)  (arXiv 2002.05202); [..., dim] → [..., dim].

    `gate_up` holds W_gate and W_up, one above the other, so that both are one product.
    """

    def __init__(self, dim: int, hidden_dim: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden_dim, bias=bias)
        self.down = nn.Linear(hidden_dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(silu_product(self.gate_up(x)))
