"""Deep Delta residual blocks for any network: a state [..., D, V] in, a rewritten state out."""

from __future__ import annotations

from torch import Tensor, nn

from deep_delta.nn.branches import DeltaBranches
from deep_delta.ops import delta_update


class DeltaResidualExternal(nn.Module):
    """X + β k (vᵀ − kᵀX) with k, v and β from outside  (DDL, arXiv 2601.00417, Eq. 2.2).

    `forward(x, k, v, beta)`: x [..., D, V], k [..., D] (normalised here), v [..., V], beta [..., 1] in [0, 2]. It
    has no parameters.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
        return delta_update(x, k, v, beta, eps=self.eps)


class DeltaResidual(nn.Module):
    """A block that reads its own state and rewrites it: k, β and v come from the mean of the state over V.

        >>> import torch
        >>> from deep_delta import DeltaResidual
        >>> DeltaResidual(d_model=8, d_value=4)(torch.randn(2, 8, 4)).shape
        torch.Size([2, 8, 4])

    Args:
        d_model: width D. d_value: value channels V. d_hidden: hidden width of the generators, D when unset.
        eps: ε of the direction's normalisation.

    `forward(x)`: x [..., D, V] with any leading axes → the same shape; `forward_with_params(x)` also returns k, β, v.
    """

    def __init__(self, d_model: int, d_value: int, d_hidden: int | None = None, eps: float = 1e-8) -> None:
        super().__init__()
        for name, size in (
            ("d_model", d_model),
            ("d_value", d_value),
            ("d_hidden", 1 if d_hidden is None else d_hidden),
        ):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.d_model, self.d_value, self.eps = d_model, d_value, eps
        self.branches = DeltaBranches(d_model, d_value, d_hidden, eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_params(x)[0]

    def forward_with_params(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(y, k, beta, v): the new state [..., D, V]; the direction [..., D], gate [..., 1] and value [..., V] used."""
        if x.ndim < 2 or x.shape[-2:] != (self.d_model, self.d_value):
            raise ValueError(f"x must be [..., {self.d_model}, {self.d_value}], got {tuple(x.shape)}")
        k, beta, v = self.branches(x)
        return delta_update(x, k, v, beta, normalize=False), k, beta, v
