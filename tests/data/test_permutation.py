from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.data.permutation import Permutation


@given(n=st.integers(1, 600), key=st.binary(min_size=1, max_size=64))
def test_every_number_comes_once(n, key):
    permutation = Permutation(n, key)
    assert sorted(map(permutation, range(n))) == list(range(n))


@pytest.mark.parametrize("n", [10**6 + 3, 2**31 + 11, 2**40])
def test_large_ranges_need_no_table(n):
    permutation = Permutation(n, b"key")
    images = [permutation(index) for index in range(2000)]
    assert len(set(images)) == 2000
    assert all(0 <= image < n for image in images)
    assert sum(images) / 2000 == pytest.approx(n / 2, rel=0.05)


def test_other_keys_give_other_orders():
    orders = {tuple(map(Permutation(50, bytes([key])), range(50))) for key in range(100)}
    assert len(orders) == 100


@pytest.mark.parametrize("n", [3, 10, 40])
@pytest.mark.parametrize("index", [0, 2])
def test_every_place_is_about_as_likely(n, index):
    counts, keys = [0] * n, 10_000
    for key in range(keys):
        counts[Permutation(n, key.to_bytes(2, "big"))(index)] += 1
    chi_squared = sum((count - keys / n) ** 2 / (keys / n) for count in counts)
    assert chi_squared < n - 1 + 5 * (2 * (n - 1)) ** 0.5  # five standard deviations; the keys are fixed
