"""Random 64-bit words that are computed where they are needed: no state, no order, no library's stream to follow."""

# B batch

from __future__ import annotations

import hashlib

import numpy as np

_GAMMA = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
_LAST = np.uint64(2**64 - 1)
_MULTIPLIERS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)


def random_words(key: str, rows: np.ndarray, count: int) -> np.ndarray:
    """`count` words of each of `rows` (int64 [B]), uint64 [B, count]: a function of (key, row, column) alone.

    Each row is a SplitMix64 sequence (Steele, Lea and Flood, 2014) whose first state is drawn, in the same way, from
    the key's sequence; a longer row begins with the shorter one.
    """
    first = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8).digest(), dtype="<u8")
    states_B = _mixed(first + (rows.astype(np.uint64) + np.uint64(1)) * _GAMMA)
    return _mixed(states_B[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA)


def _mixed(words: np.ndarray) -> np.ndarray:
    """SplitMix64's output function, a bijection in which every input bit reaches every output bit."""
    words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
    words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))


def below(words: np.ndarray, bound: int | np.ndarray) -> np.ndarray:
    """Whole numbers in 0 … bound − 1, int64, from words; uneven by less than bound / 2³²."""
    return (((words >> np.uint64(32)) * np.asarray(bound, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)


def strands(words: np.ndarray, start: int, count: int, places: int) -> tuple[np.ndarray, ...]:
    """`count` words for each of so many places, from words[:, start]: each uint64 [B, places]. A place's words are the
    same however many places follow it."""
    block = words[:, start : start + count * places].reshape(len(words), places, count)
    return tuple(block[..., strand] for strand in range(count))


def shuffled(words: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A random order of the first `counts` [B] places of words [B, N], int64 [B, N]: those come first, evenly shuffled,
    and the others behind them."""
    beyond = np.arange(words.shape[1]) >= counts[:, None]
    return np.argsort(np.where(beyond, _LAST, words), axis=1, kind="stable")
