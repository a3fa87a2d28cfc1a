"""The measures of one delta update, from the tensors that it is made of."""

# B batch, T time, V value channels, D width; "..." any leading axes

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deep_delta.errors import NumericsError
from deep_delta.ops import normalize_direction
from deep_delta.ops.depth_update.shapes import matrix_form
from deep_delta.spectral.records import UpdateSpectrum
from deep_delta.spectral.regimes import REGIMES, determinant, k_eigenvalue, lifted_determinant, regime

QUANTILES = {"beta_q05": 0.05, "beta_q25": 0.25, "beta_median": 0.5, "beta_q75": 0.75, "beta_q95": 0.95}


@torch.no_grad()
def measure(
    x: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    *,
    eps: float = 1e-6,
    erases: bool = True,
    previous_k: Tensor | None = None,
) -> UpdateSpectrum:
    """Measure X' = X + βk(vᵀ − kᵀX) (DDL, Eq. 2.2) without computing X'.

    The state x before the update [..., D, V], the raw direction k̃ [..., D], the target v [..., V] and the gate β
    [..., 1], in every form that `delta_update` takes; k̃ is normalised here with the update's `eps`. Everything is
    computed in fp32 at least, also under autocast, and without gradients.

    Args:
        erases: false measures the write-only update X + βkvᵀ, whose linear part is the identity.
        previous_k: the raw direction [..., D] of the update before this one, for the alignment.

    Raises:
        ValueError: shapes do not fit; the message names them.
        NumericsError: a measure is not finite; the message names it.
        ConfigError: a gate is outside [0, 2].
    """
    # Elementwise products and sums below: autocast lowers the precision of matrix products alone.
    x, k, v, beta, _ = matrix_form(x, k, v, beta)
    x, k, v, beta = (_precise(tensor) for tensor in (x, k, v, beta.squeeze(-1)))
    direction_norm = _norm(k)
    k = normalize_direction(k, eps)
    k_norm = _norm(k)
    error = v - (k.unsqueeze(-1) * x).sum(-2)
    # The readout moves by β‖k‖² times what is written, whatever X is.
    error_after = error - (beta * k_norm * k_norm).unsqueeze(-1) * (error if erases else v)
    erased = beta if erases else torch.zeros_like(beta)
    means = {
        "direction_norm": direction_norm,
        "state_norm": _norm(x.flatten(-2)),
        "beta_mean": beta,
        "k_norm": k_norm,
        "k_eigenvalue": k_eigenvalue(erased, k_norm),
        "determinant": determinant(erased, k_norm),
        "lifted_determinant": lifted_determinant(erased, x.shape[-1], k_norm),
        "discrepancy_before": _norm(error),
        "discrepancy_after": _norm(error_after),
    }
    if previous_k is not None:
        means["alignment"] = (_unit(k) * _unit(_precise(previous_k))).sum(-1).abs()
    measured = dict(zip(means, torch.stack([one.mean() for one in means.values()]).tolist(), strict=True))
    for name, mean in measured.items():
        if not math.isfinite(mean):
            raise NumericsError(f"{name} is {mean}; the model or its input has diverged")
    shares = one_hot(regime(beta).flatten(), len(REGIMES)).to(beta.dtype).mean(0).tolist()
    quantiles = torch.quantile(beta.flatten(), beta.new_tensor(list(QUANTILES.values()))).tolist()
    return UpdateSpectrum(
        tokens=beta.numel(),
        beta_std=beta.std(correction=0).item(),
        regime_share=dict(zip(REGIMES, shares, strict=True)),
        alignment=measured.pop("alignment", None),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        **measured,
    )


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _norm(vectors: Tensor) -> Tensor:
    """Norms over the last axis, [...]; scaled first, so that entries of 1e20 do not overflow a sum of squares."""
    scale = vectors.abs().amax(-1, keepdim=True)
    scale = scale + (scale == 0)
    return torch.linalg.vector_norm(vectors / scale, dim=-1) * scale.squeeze(-1)


def _unit(vectors: Tensor) -> Tensor:
    """Of norm exactly 1, without the ε of the update; zero stays zero."""
    return normalize_direction(vectors, 0.0)
