"""Expressions over +, − and × modulo 5, read symbol by symbol; the value is asked for at the "=" that ends them.

The two tasks of Delétang et al., 2023 (arXiv 2207.02098): without brackets a regular language, with nested brackets a
deterministic context-free one. A length counts the symbols before "=".
"""

# B batch, T time

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.words import below

MODULUS = 5
_PLUS, _MINUS, _TIMES, _EQUALS, _OPEN, _CLOSE = range(MODULUS, MODULUS + 6)
_DIGITS = tuple(str(digit) for digit in range(MODULUS))


class _Ends:
    """What both kinds of expression share: an "=" behind the last symbol, at which alone the value is asked for."""

    unit = "symbols"
    longest = None
    chance = 1 / MODULUS

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return lengths + 1

    def num_words(self, length: int) -> int:
        return length


def _ended(ids_BT: np.ndarray, values_B: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write the "=" and the value's target."""
    rows = np.arange(len(ids_BT))
    targets_BT = np.full_like(ids_BT, IGNORED)
    ids_BT[rows, lengths], targets_BT[rows, lengths] = _EQUALS, values_B
    return ids_BT, targets_BT


@dataclass(frozen=True)
class ModularArithmetic(_Ends):
    """A digit, then operators and digits in turn: 2 + 3 * 4 - 1. An even length begins with a minus: - 2 + 3.

    * binds tighter than + and -, which are taken from left to right. The last operator is + or -, so that the value is
    uniform whatever comes before.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*_DIGITS, "+", "-", "*", "=")

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`. Read from the left: a digit multiplies the open term; + and - add it to the total."""
        width = int(lengths.max())
        signed_B = lengths % 2 == 0
        is_digit_BT = (np.arange(width) + signed_B[:, None]) % 2 == 0
        ids_BT = np.where(is_digit_BT, below(words[:, :width], MODULUS), _PLUS + below(words[:, :width], 3))
        rows, last_operator_B = np.arange(len(ids_BT)), np.maximum(lengths - 2, 0)
        last_sign_B = _PLUS + below(words[rows, last_operator_B], 2)
        ids_BT[rows, last_operator_B] = np.where(lengths > 1, last_sign_B, ids_BT[rows, last_operator_B])
        ids_BT[signed_B, 0] = _MINUS

        total_B, term_B = np.zeros(len(ids_BT), dtype=np.int64), np.ones(len(ids_BT), dtype=np.int64)
        for t in range(width):
            id_B, inside_B = ids_BT[:, t], t < lengths
            closes_B = inside_B & ((id_B == _PLUS) | (id_B == _MINUS)) & (t > 0)
            total_B = np.where(closes_B, total_B + term_B, total_B) % MODULUS
            sign_B = np.where(id_B == _MINUS, -1, 1)
            term_B = np.where(closes_B | (signed_B & (t == 0)), sign_B, term_B)
            term_B = np.where(inside_B & is_digit_BT[:, t], term_B * id_B % MODULUS, term_B)
        padded_BT = np.pad(ids_BT, ((0, 0), (0, 1)))
        return _ended(padded_BT, (total_B + term_B) % MODULUS, lengths)


class _Spans(NamedTuple):
    """Sub-expressions at one depth: where in which row they start, their length, and that of their left operand."""

    row: np.ndarray
    start: np.ndarray
    size: np.ndarray
    left: np.ndarray


@dataclass(frozen=True)
class BracketedArithmetic(_Ends):
    """Expressions of an exact length, every operation in brackets: ( ( 1 + 4 ) * ( - 3 ) ).

        E(1) = digit    E(2) = - E(1)    E(3), E(4) = ( E(n−2) )    E(n) = ( E(i) op E(n−3−i) ), i evenly in 1 … n−4

    The outermost operator is + or -, else products would make 0 more likely; so it is 21% of the values at most.
    """

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*_DIGITS, "+", "-", "*", "=", "(", ")")

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`. All rows grow together, a depth at a time; values come back from the deepest spans upwards."""
        ids_BT = np.zeros((len(words), int(lengths.max()) + 1), dtype=np.int64)
        values_BT = np.zeros_like(ids_BT)  # of each span, at its start
        levels = []
        row, start, size = np.arange(len(words)), np.zeros(len(words), dtype=np.int64), lengths
        while len(row):
            left = np.where(size > 4, 1 + below(words[row, start], np.maximum(size - 4, 1)), size - 2)
            left = np.where(size == 2, 1, left)
            spans = _Spans(row, start, size, left)
            levels.append(spans)
            self._write(ids_BT, values_BT, words, spans, num_operators=2 if len(levels) == 1 else 3)
            inner, twice = size > 1, size > 4
            right_start, right_size = (start + left + 2)[twice], (size - 3 - left)[twice]
            row = np.concatenate([row[inner], row[twice]])
            start = np.concatenate([start[inner] + 1, right_start])
            size = np.concatenate([left[inner], right_size])
        for spans in reversed(levels):
            self._evaluate(values_BT, ids_BT, spans)
        return _ended(ids_BT, values_BT[:, 0].copy(), lengths)

    @staticmethod
    def _write(
        ids_BT: np.ndarray, values_BT: np.ndarray, words: np.ndarray, spans: _Spans, *, num_operators: int
    ) -> None:
        """The symbols that belong to these spans themselves."""
        row, start, size, left = spans
        ids_BT[row, start] = np.where(size == 2, _MINUS, _OPEN)
        digit, closed, binary = size == 1, size > 2, size > 4
        values_BT[row[digit], start[digit]] = below(words[row[digit], start[digit]], MODULUS)
        ids_BT[row[digit], start[digit]] = values_BT[row[digit], start[digit]]
        ids_BT[row[closed], (start + size - 1)[closed]] = _CLOSE
        row, middle = row[binary], (start + left + 1)[binary]
        ids_BT[row, middle] = _PLUS + below(words[row, middle], num_operators)

    @staticmethod
    def _evaluate(values_BT: np.ndarray, ids_BT: np.ndarray, spans: _Spans) -> None:
        """The values of these spans from those of their operands."""
        inner = spans.size > 1
        row, start, size, left = (part[inner] for part in spans)
        one = values_BT[row, start + 1]
        found = np.where(size == 2, -one, one)
        binary = size > 4
        row_2, middle = row[binary], (start + left + 1)[binary]
        one, other, operator = one[binary], values_BT[row_2, middle + 1], ids_BT[row_2, middle]
        found[binary] = np.select([operator == _PLUS, operator == _MINUS], [one + other, one - other], one * other)
        values_BT[row, start] = found % MODULUS
