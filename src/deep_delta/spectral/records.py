"""What is measured of a delta update, as frozen records that JSON holds. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from deep_delta.runs.record import Record
from deep_delta.spectral.regimes import REGIMES, RegimeName


class UpdateSpectrum(Record):
    """One delta update, measured at every token of a batch. Means are over tokens; norms are Euclidean, per token."""

    tokens: int
    """How many tokens were measured."""
    beta_mean: float
    beta_std: float
    """Spread of β over the tokens (of the population, so one token has 0)."""
    beta_q05: float
    """β below which 5% of the tokens are; the other quantiles likewise."""
    beta_q25: float
    beta_median: float
    beta_q75: float
    beta_q95: float
    regime_share: dict[RegimeName, float]
    """Share of the tokens whose β lies in each regime; all five are there and they sum to 1."""
    k_eigenvalue: float
    """Mean eigenvalue along k: 1 − β‖k‖², or 1 for a write-only residual, which erases nothing."""
    determinant: float
    """Mean determinant on one value channel; equal to the eigenvalue, all others being 1."""
    lifted_determinant: float
    """Mean determinant on the whole state, the V-th power of the above per token."""
    direction_norm: float
    """Mean ‖k̃‖, before normalisation."""
    k_norm: float
    """Mean ‖k‖ as used: below 1 where the normalisation's ε is active."""
    discrepancy_before: float
    """Mean ‖vᵀ − kᵀX‖: what the state reads along k is this far from the target."""
    discrepancy_after: float
    """The same for the updated state."""
    alignment: float | None
    """Mean |cosine| between k and the previous update's k at the same token; the sign of k alone means nothing,
    because (k, v) and (−k, −v) are one update. None where there is no previous update."""
    state_norm: float
    """Mean Frobenius norm of the state X before the update."""


class SublayerSpectrum(UpdateSpectrum):
    """The update after one sublayer of a transformer."""

    layer: int
    """The block, from 0."""
    sublayer: Literal["mixer", "mlp"]


class LayerSummary(Record):
    """One row of a table: both updates of a layer together."""

    layer: int
    beta_mean: float
    beta_std: float
    """Over the tokens of both updates."""
    regime: RegimeName
    """The regime that most tokens are in."""
    share: float
    """How many of the tokens those are."""
    k_eigenvalue: float
    lifted_determinant: float
    discrepancy_ratio: float | None
    """Discrepancy after over before: below 1 the layer brings the state closer to its targets. None for 0/0."""
    state_norm: float


def summarize(spectra: Iterable[SublayerSpectrum]) -> list[LayerSummary]:
    """One row per layer, in the order given; `spectra` as `collect` returns them."""
    return [_layer(layer, list(updates)) for layer, updates in groupby(spectra, key=lambda one: one.layer)]


def _layer(layer: int, updates: Sequence[SublayerSpectrum]) -> LayerSummary:
    beta_mean = _mean(one.beta_mean for one in updates)
    mean_square = _mean(one.beta_std**2 + one.beta_mean**2 for one in updates)
    shares = {name: _mean(one.regime_share[name] for one in updates) for name in REGIMES}
    commonest = max(REGIMES, key=shares.__getitem__)
    before = _mean(one.discrepancy_before for one in updates)
    return LayerSummary(
        layer=layer,
        beta_mean=beta_mean,
        beta_std=math.sqrt(max(mean_square - beta_mean**2, 0.0)),
        regime=commonest,
        share=shares[commonest],
        k_eigenvalue=_mean(one.k_eigenvalue for one in updates),
        lifted_determinant=_mean(one.lifted_determinant for one in updates),
        discrepancy_ratio=_mean(one.discrepancy_after for one in updates) / before if before else None,
        state_norm=_mean(one.state_norm for one in updates),
    )


def _mean(numbers: Iterable[float]) -> float:
    found = list(numbers)
    return math.fsum(found) / len(found)
