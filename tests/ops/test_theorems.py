"""The theorems of Deep Delta Learning about one update, over thousands of random draws, and the op's contract.

The theorems are tested as they are stated: k is a unit vector by construction, and `normalize=False`.
"""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deep_delta.ops import delta_operator, delta_update
from deep_delta.ops.depth_update import BACKENDS

# N draws, D width, V value channels
DRAWS = 10_000
BARS = {torch.float64: 1e-13, torch.float32: 2e-5}
PRECISIONS = pytest.mark.parametrize("dtype", BARS, ids=["fp64", "fp32"])
WIDTHS = pytest.mark.parametrize("width", [1, 2, 7, 16], ids=lambda width: f"D{width}")


@pytest.fixture(params=[one.name for one in BACKENDS if not one.unavailable(torch.zeros(1))], scope="module")
def update(request):
    return partial(delta_update, backend=request.param)


def draw(width: int, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit directions [N, D] and gates [N, 1] in (0, 2), the first three gates 0, 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    k_ND = torch.randn(DRAWS, width, dtype=torch.float64, generator=generator)
    k_ND /= k_ND.norm(dim=-1, keepdim=True)
    beta_N1 = 2 * torch.rand(DRAWS, 1, dtype=torch.float64, generator=generator)
    beta_N1[:3, 0] = torch.tensor([0.0, 1.0, 2.0])
    return k_ND.to(dtype), beta_N1.to(dtype)


def normal(*shape: int, dtype: torch.dtype, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def worst(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """max|a − b| / max|b|."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@PRECISIONS
@WIDTHS
def test_the_eigenvalues_are_one_and_one_minus_beta(width, dtype):
    k_ND, beta_N1 = draw(width, dtype)
    found = torch.linalg.eigvalsh(delta_operator(k_ND, beta_N1, normalize=False))
    expected = torch.ones(DRAWS, width, dtype=dtype)
    expected[:, :1] = 1 - beta_N1
    assert worst(found, expected) <= BARS[dtype]


@PRECISIONS
@WIDTHS
def test_the_direction_is_the_eigenvector_of_one_minus_beta(update, width, dtype):
    k_ND, beta_N1 = draw(width, dtype)
    nothing = torch.zeros(DRAWS, 1, dtype=dtype)
    moved = update(k_ND, k_ND, nothing, beta_N1, normalize=False)
    assert worst(moved, (1 - beta_N1) * k_ND) <= BARS[dtype]


@PRECISIONS
@WIDTHS
def test_the_determinant_is_one_minus_beta(width, dtype):
    k_ND, beta_N1 = draw(width, dtype)
    found = torch.linalg.det(delta_operator(k_ND, beta_N1, normalize=False))
    assert worst(found, 1 - beta_N1.squeeze(-1)) <= BARS[dtype]


@PRECISIONS
@pytest.mark.parametrize(("width", "channels"), [(5, 2), (4, 4)])
def test_the_lifted_determinant_is_its_power(update, width, channels, dtype):
    """The update with v = 0 is linear in X: its matrix, column by column, is what it does to every basis state."""
    k_ND, beta_N1 = draw(width, dtype)
    size = width * channels
    basis = torch.eye(size, dtype=dtype).view(1, size, width, channels)
    nothing = torch.zeros(1, 1, channels, dtype=dtype)
    columns = update(basis, k_ND.unsqueeze(1), nothing, beta_N1.unsqueeze(1), normalize=False)
    found = torch.linalg.det(columns.flatten(-2))
    assert worst(found, (1 - beta_N1.squeeze(-1)) ** channels) <= BARS[dtype]


@PRECISIONS
@pytest.mark.parametrize(("width", "channels"), [(1, 1), (7, 1), (16, 4), (3, 8)])
def test_the_discrepancy_contracts_by_one_minus_beta(update, width, channels, dtype):
    k_ND, beta_N1 = draw(width, dtype)
    x_NDV = normal(DRAWS, width, channels, dtype=dtype)
    v_NV = normal(DRAWS, channels, dtype=dtype, seed=2)
    before = torch.einsum("nd,ndv->nv", k_ND, x_NDV) - v_NV
    after = torch.einsum("nd,ndv->nv", k_ND, update(x_NDV, k_ND, v_NV, beta_N1, normalize=False)) - v_NV
    assert worst(after, (1 - beta_N1) * before) <= BARS[dtype]


@PRECISIONS
@WIDTHS
def test_at_two_the_operator_is_a_reflection(width, dtype):
    k_ND, _ = draw(width, dtype)
    A_NDD = delta_operator(k_ND, torch.full((DRAWS, 1), 2.0, dtype=dtype), normalize=False)
    identity = torch.eye(width, dtype=dtype).expand(DRAWS, -1, -1)
    assert worst(A_NDD @ A_NDD.mT, identity) <= BARS[dtype]
    assert torch.equal(A_NDD, A_NDD.mT)


@PRECISIONS
@WIDTHS
def test_at_one_the_operator_is_a_projection_and_the_target_is_read_exactly(update, width, dtype):
    k_ND, _ = draw(width, dtype)
    one = torch.ones(DRAWS, 1, dtype=dtype)
    A_NDD = delta_operator(k_ND, one, normalize=False)
    assert (A_NDD @ A_NDD - A_NDD).abs().max() <= BARS[dtype]
    v_NV = normal(DRAWS, 3, dtype=dtype)
    updated = update(normal(DRAWS, width, 3, dtype=dtype), k_ND, v_NV, one, normalize=False)
    assert worst(torch.einsum("nd,ndv->nv", k_ND, updated), v_NV) <= BARS[dtype]


@PRECISIONS
@WIDTHS
def test_at_zero_nothing_changes(update, width, dtype):
    k_ND, _ = draw(width, dtype)
    x_NDV = normal(DRAWS, width, 3, dtype=dtype)
    updated = update(x_NDV, k_ND, normal(DRAWS, 3, dtype=dtype), torch.zeros(DRAWS, 1, dtype=dtype), normalize=False)
    assert torch.equal(updated, x_NDV)


@PRECISIONS
def test_the_update_is_the_operator_and_the_write(update, dtype):
    k_ND, beta_N1 = draw(6, dtype)
    x_NDV, v_NV = normal(DRAWS, 6, 3, dtype=dtype), normal(DRAWS, 3, dtype=dtype, seed=2)
    write_NDV = (beta_N1 * k_ND).unsqueeze(-1) * v_NV.unsqueeze(-2)
    expected = delta_operator(k_ND, beta_N1, normalize=False) @ x_NDV + write_NDV
    assert worst(update(x_NDV, k_ND, v_NV, beta_N1, normalize=False), expected) <= BARS[dtype]


@PRECISIONS
def test_a_direction_that_is_not_unit_has_the_eigenvalue_of_its_norm(dtype):
    """Without normalisation, or with an active ε, the eigenvalue is 1 − β‖k‖²: 1 − β would be false."""
    k_ND, beta_N1 = draw(7, dtype)
    eps = 0.5
    raw_ND = k_ND * 0.7
    norm_square = (0.7**2 / (0.7**2 + eps**2)) * torch.ones_like(beta_N1)
    A_NDD = delta_operator(raw_ND, beta_N1, eps=eps)
    assert worst(torch.linalg.det(A_NDD), (1 - beta_N1 * norm_square).squeeze(-1)) <= BARS[dtype]
    unnormalised = delta_operator(raw_ND, beta_N1, normalize=False)
    assert worst(torch.linalg.det(unnormalised), (1 - beta_N1 * 0.49).squeeze(-1)) <= BARS[dtype]


# The op's contract: whatever the shapes and the scale of the direction.

finite = st.floats(-4, 4, width=32)


@st.composite
def updates(draw_from):
    """Matrix and vector states with up to three leading axes, each of which may have to broadcast."""
    leading = draw_from(st.lists(st.integers(1, 3), max_size=3))
    width, channels = draw_from(st.integers(1, 9)), draw_from(st.integers(1, 5))
    vector = draw_from(st.booleans())
    if vector:
        channels = 1
    generator = torch.Generator().manual_seed(draw_from(st.integers(0, 2**31)))

    def axes() -> list[int]:
        return [size if draw_from(st.booleans()) else 1 for size in leading]

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x = tensor(*axes(), width) if vector else tensor(*axes(), width, channels)
    k, v = tensor(*axes(), width), tensor(*axes(), channels)
    beta = 2 * torch.rand(*axes(), 1, dtype=torch.float64, generator=generator)
    return x, k, v, beta


@settings(deadline=None)
@given(updates())
def test_every_shape_gives_the_equation(update, tensors):
    x, k, v, beta = tensors
    unit = k / k.norm(dim=-1, keepdim=True)
    is_vector = x.ndim == k.ndim
    X = x.unsqueeze(-1) if is_vector else x
    readout = (unit.unsqueeze(-1) * X).sum(-2, keepdim=True)
    expected = X + beta.unsqueeze(-1) * unit.unsqueeze(-1) * (v.unsqueeze(-2) - readout)
    found = update(x, k, v, beta, eps=0.0)
    torch.testing.assert_close(found, expected.squeeze(-1) if is_vector else expected, atol=1e-12, rtol=0)
    assert torch.equal(update(x, k, v, beta.squeeze(-1), eps=0.0), found)


@settings(deadline=None)
@given(updates(), st.floats(1e-18, 1e18))
def test_the_length_and_the_sign_of_a_direction_do_not_matter(update, tensors, length):
    x, k, v, beta = tensors
    found = update(x, k, v, beta, eps=0.0)
    torch.testing.assert_close(update(x, length * k, v, beta, eps=0.0), found, atol=1e-12, rtol=0)
    torch.testing.assert_close(update(x, -k, -v, beta, eps=0.0), found, atol=1e-12, rtol=0)


@settings(deadline=None)
@given(updates())
def test_no_direction_is_no_update(update, tensors):
    x, k, v, beta = tensors
    found = update(x, torch.zeros_like(k), v, beta)
    assert torch.equal(found, x.expand_as(found))


@settings(deadline=None)
@given(updates())
def test_a_reflection_twice_is_the_identity(update, tensors):
    x, k, v, beta = tensors
    two = torch.full_like(beta, 2.0)
    once = update(x, k, v, two, eps=0.0)
    torch.testing.assert_close(update(once, k, v, two, eps=0.0), x.expand_as(once), atol=1e-12, rtol=0)


@settings(deadline=None)
@given(updates(), finite)
def test_the_update_is_linear_in_state_and_target_together(update, tensors, factor):
    x, k, v, beta = tensors
    scaled = update(factor * x, k, factor * v, beta)
    torch.testing.assert_close(scaled, factor * update(x, k, v, beta), atol=1e-12, rtol=0)
