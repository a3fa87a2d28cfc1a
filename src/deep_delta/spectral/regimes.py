"""What one gate does to the state: its regime, and the spectrum of A = I − βkkᵀ. Imports no torch.

A has the eigenvalue 1 − β‖k‖² along k and 1 on everything orthogonal to it (DDL, section 3), so its determinant is that
one eigenvalue, and on a matrix state of V value channels, which A transforms alike, the determinant is its V-th power.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args, overload

from deep_delta.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

RegimeName = Literal["near-identity", "interpolating", "near-projection", "near-reflection", "strong-reflection"]

REGIMES: tuple[RegimeName, ...] = get_args(RegimeName)
"""The five regimes in the order of β; a regime's integer code is its index here."""

NEAR_IDENTITY_BELOW = 0.3
INTERPOLATING_BELOW = 0.7
NEAR_PROJECTION_BELOW = 1.3
NEAR_REFLECTION_BELOW = 1.7
BOUNDARIES = (NEAR_IDENTITY_BELOW, INTERPOLATING_BELOW, NEAR_PROJECTION_BELOW, NEAR_REFLECTION_BELOW)
"""Where a regime ends and the next begins; a gate on a boundary belongs to the upper one."""


@overload
def regime(beta: float) -> RegimeName: ...
@overload
def regime(beta: Tensor) -> Tensor: ...
def regime(beta: float | Tensor) -> RegimeName | Tensor:
    """The regime of a gate: [0, 0.3), [0.3, 0.7), [0.7, 1.3), [1.3, 1.7) or [1.7, 2].

    A number gives the name; a tensor of any shape gives int64 codes of that shape, indices into `REGIMES`, with the
    boundaries rounded to the tensor's precision. Raises `ConfigError` where β is NaN or outside [0, 2].

        >>> regime(1.0)
        'near-projection'
    """
    if isinstance(beta, (int, float)):
        if not 0 <= beta <= 2:
            raise _no_gate(beta)
        return REGIMES[sum(beta >= bound for bound in BOUNDARIES)]
    allowed = (beta >= 0) & (beta <= 2)
    if not allowed.all():
        raise _no_gate(beta[~allowed].flatten()[0].item())
    code = (beta >= BOUNDARIES[0]).long()
    for bound in BOUNDARIES[1:]:
        code = code + (beta >= bound)
    return code


@overload
def k_eigenvalue(beta: float, k_norm: float = 1.0) -> float: ...
@overload
def k_eigenvalue(beta: Tensor, k_norm: float | Tensor = 1.0) -> Tensor: ...
def k_eigenvalue(beta: float | Tensor, k_norm: float | Tensor = 1.0) -> float | Tensor:
    """The eigenvalue of I − βkkᵀ along k, 1 − β‖k‖²; the discrepancy shrinks by it: e' = (1 − β‖k‖²) e (Eq. 2.4).

    `k_norm` is the norm of k as the update used it, of β's shape. It is 1 up to rounding, and less where the ε of the
    normalisation is not small against ‖k̃‖: then 1 − β would be false.
    """
    return 1 - beta * k_norm * k_norm


@overload
def determinant(beta: float, k_norm: float = 1.0) -> float: ...
@overload
def determinant(beta: Tensor, k_norm: float | Tensor = 1.0) -> Tensor: ...
def determinant(beta: float | Tensor, k_norm: float | Tensor = 1.0) -> float | Tensor:
    """det(I − βkkᵀ): the eigenvalue along k, all others being 1. Negative beyond the projection: orientation flips."""
    return k_eigenvalue(beta, k_norm)  # type: ignore[arg-type]


@overload
def lifted_determinant(beta: float, d_value: int, k_norm: float = 1.0) -> float: ...
@overload
def lifted_determinant(beta: Tensor, d_value: int, k_norm: float | Tensor = 1.0) -> Tensor: ...
def lifted_determinant(beta: float | Tensor, d_value: int, k_norm: float | Tensor = 1.0) -> float | Tensor:
    """The determinant on a matrix state of V = `d_value` channels, (1 − β‖k‖²)^V: I − βkkᵀ acts on each of them."""
    return determinant(beta, k_norm) ** d_value  # type: ignore[arg-type]


def _no_gate(beta: float) -> ConfigError:
    return ConfigError(f"beta must be in [0, 2] to have a regime, got {beta}; gates are 2·sigmoid(logit)")
