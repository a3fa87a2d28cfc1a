import math

import pytest

from deep_delta.spectral import REGIMES, SublayerSpectrum, summarize


def spectrum(layer: int, sublayer: str, **changes) -> SublayerSpectrum:
    shares = dict.fromkeys(REGIMES, 0.0) | {"interpolating": 1.0}
    fields = {
        "tokens": 10,
        "beta_mean": 0.5,
        "beta_std": 0.0,
        "beta_q05": 0.5,
        "beta_q25": 0.5,
        "beta_median": 0.5,
        "beta_q75": 0.5,
        "beta_q95": 0.5,
        "regime_share": shares,
        "k_eigenvalue": 0.5,
        "determinant": 0.5,
        "lifted_determinant": 0.25,
        "direction_norm": 1.0,
        "k_norm": 1.0,
        "discrepancy_before": 2.0,
        "discrepancy_after": 1.0,
        "alignment": None,
        "state_norm": 3.0,
    }
    return SublayerSpectrum(layer=layer, sublayer=sublayer, **(fields | changes))


def test_one_row_per_layer_in_order():
    rows = summarize(spectrum(layer, sublayer) for layer in range(3) for sublayer in ("mixer", "mlp"))
    assert [row.layer for row in rows] == [0, 1, 2]
    assert rows[0] == rows[1].model_copy(update={"layer": 0})


def test_a_row_pools_both_updates():
    reflecting = dict.fromkeys(REGIMES, 0.0) | {"near-reflection": 0.7, "strong-reflection": 0.3}
    (row,) = summarize(
        [
            spectrum(0, "mixer", beta_std=0.1),
            spectrum(0, "mlp", beta_mean=1.5, beta_std=0.1, regime_share=reflecting, discrepancy_after=2.0),
        ]
    )
    assert row.beta_mean == 1.0
    assert row.beta_std == pytest.approx(math.sqrt(0.1**2 + 0.5**2))
    assert (row.regime, row.share) == ("interpolating", 0.5)
    assert row.discrepancy_ratio == 0.75


def test_no_discrepancy_has_no_ratio():
    (row,) = summarize([spectrum(0, "mixer", discrepancy_before=0.0, discrepancy_after=0.0)])
    assert row.discrepancy_ratio is None


def test_nothing_has_no_rows():
    assert summarize([]) == []
