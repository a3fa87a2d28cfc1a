from __future__ import annotations

import numpy as np
import pytest

from deep_delta.data.synthetic.words import _mixed, below, random_words

ROWS = np.arange(200)


def test_the_generator_is_splitmix64():
    """The published outputs of seed 1234567, whose states are seed + n·γ."""
    states = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert _mixed(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_a_word_depends_on_its_key_row_and_column_alone():
    words = random_words("key", ROWS, 20)
    assert (random_words("key", ROWS[::-1], 20)[::-1] == words).all()
    assert (random_words("key", ROWS[70:90], 7) == words[70:90, :7]).all()
    assert not (random_words("other", ROWS, 20) == words).any()
    assert len(np.unique(words)) == words.size


def test_what_a_key_draws_never_changes():
    """A resumed run of another version must see the same examples: change these only with the format of checkpoints."""
    assert random_words("train/0", np.array([0, 10**12]), 2).tolist() == [
        [5642348258888733015, 4318901327659570832],
        [1195049207679771872, 17626622178802316184],
    ]


@pytest.mark.parametrize(("bound", "bins"), [(1, 1), (2, 2), (5, 5), (120, 120), (2**15, 16)])
def test_numbers_below_a_bound_are_even(bound: int, bins: int):
    found = below(random_words("even", np.arange(4000), 50), bound)
    assert found.dtype == np.int64
    assert found.min() == 0
    assert found.max() == bound - 1
    counts = np.bincount(found.ravel() * bins // bound)
    expected = found.size / len(counts)
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < len(counts) + 5 * np.sqrt(2 * len(counts))


def test_every_row_has_its_own_bound():
    assert below(random_words("rows", ROWS, 1)[:, 0], np.arange(1, 201)).max() < 200
    assert (below(np.full(3, 2**64 - 1, np.uint64), np.array([1, 2, 3])) == [0, 1, 2]).all()


def test_neighbouring_rows_and_columns_are_unlike():
    bits = np.unpackbits(random_words("bits", np.arange(1000), 32).view(np.uint8)).reshape(1000, 32, 64).astype(float)
    for one, other in ((bits[:-1], bits[1:]), (bits[:, :-1], bits[:, 1:])):
        assert abs((one == other).mean() - 0.5) < 0.002
