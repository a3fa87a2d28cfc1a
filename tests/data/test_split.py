from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.data.split import BUCKETS, Split, bucket_of


def _buckets(*sizes: int) -> np.ndarray:
    return np.array([*sizes, *[0] * (BUCKETS - len(sizes))], dtype=np.int64)


@pytest.mark.parametrize(
    ("sizes", "held_out", "cut"),
    [
        ([1000], set(), 0),
        ([1000, 1000], {0}, None),
        ([3000, 2000], {1}, None),
        ([1000, 2], set(), 0),
        ([2, 1000, 3], set(), 1),
        ([500, 400, 50, 60], {2}, None),
        ([1], set(), 0),
    ],
    ids=["one", "equal", "smaller", "one and a crumb", "one and crumbs", "what fits", "one byte"],
)
def test_what_is_held_out(sizes, held_out, cut):
    assert Split.of(_buckets(*sizes)) == Split(frozenset(held_out), cut)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300))
def test_both_sides_always_get_a_sensible_share(sizes):
    num_bytes = _buckets(*sizes)
    split = Split.of(num_bytes)
    share = sum(int(num_bytes[bucket]) for bucket in split.held_out) / sum(sizes)
    if split.cut is None:
        assert 0.01 <= share <= 0.5
    else:
        assert not split.held_out
        assert num_bytes[split.cut] > 0.5 * sum(sizes)


def test_many_documents_hold_out_a_twentieth():
    sizes = np.random.default_rng(0).integers(1, 10**6, BUCKETS)
    split = Split.of(sizes)
    assert 0.049 < sum(int(sizes[bucket]) for bucket in split.held_out) / sizes.sum() <= 0.05


def test_copies_share_a_bucket_whatever_their_white_space():
    text = "def f(x):\n    return x\n" * 10_000
    same = [text, text.replace("\n", "\r\n"), text.replace("    ", "\t"), text + "\n\n", text + "and another end"]
    assert len({bucket_of(copy) for copy in same}) == 1
    assert len({bucket_of(f"{number} {text}") for number in range(100)}) > 90
