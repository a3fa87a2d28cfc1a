import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.errors import ConfigError
from deep_delta.spectral import REGIMES, determinant, k_eigenvalue, lifted_determinant, regime
from deep_delta.spectral.regimes import BOUNDARIES

EDGES = {
    0.0: "near-identity",
    math.nextafter(0.3, 0): "near-identity",
    0.3: "interpolating",
    math.nextafter(0.7, 0): "interpolating",
    0.7: "near-projection",
    1: "near-projection",
    math.nextafter(1.3, 0): "near-projection",
    1.3: "near-reflection",
    math.nextafter(1.7, 0): "near-reflection",
    1.7: "strong-reflection",
    2: "strong-reflection",
}


@pytest.mark.parametrize(("beta", "name"), EDGES.items())
def test_intervals_are_closed_below_and_open_above(beta, name):
    assert regime(beta) == name


@given(st.lists(st.floats(0, 2), max_size=20))
def test_codes_are_the_indices_of_the_names(betas):
    codes = regime(torch.tensor(betas, dtype=torch.float64))
    assert codes.dtype == torch.int64
    assert [REGIMES[code] for code in codes] == [regime(beta) for beta in betas]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_boundary_in_any_precision_belongs_to_the_upper_regime(dtype):
    assert regime(torch.tensor(BOUNDARIES, dtype=dtype)).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 3, 1)])
def test_codes_have_the_shape_of_the_gates(shape):
    assert regime(torch.ones(shape)).shape == shape


@pytest.mark.parametrize("beta", [math.nan, math.inf, -math.inf, -1e-9, 2.001])
def test_what_is_no_gate_has_no_regime(beta):
    with pytest.raises(ConfigError, match=r"beta must be in \[0, 2\] to have a regime, got "):
        regime(beta)
    with pytest.raises(ConfigError, match=f"got {str(beta)[:4]}"):
        regime(torch.tensor([[0.5], [beta]], dtype=torch.float64))


def test_a_gate_has_the_spectrum_of_its_operator():
    assert (k_eigenvalue(0.5), determinant(1.5), lifted_determinant(1.5, 3)) == (0.5, -0.5, -0.125)
    assert k_eigenvalue(1.0, k_norm=0.5) == 0.75
    assert lifted_determinant(torch.tensor([0.0, 1.0, 1.5]), 4).tolist() == [1.0, 0.0, 0.0625]
    assert determinant(torch.tensor([2.0]), torch.tensor([0.5])).tolist() == [0.5]


def test_a_number_needs_no_torch():
    script = """if True:
        import sys
        from deep_delta.spectral import SublayerSpectrum, regime
        print(regime(1.0), "torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["near-projection", "False"]
