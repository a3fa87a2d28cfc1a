"""Against a recursive evaluator of the written expression, which shares nothing with the code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.arithmetic import BracketedArithmetic, ModularArithmetic
from deep_delta.data.synthetic.words import random_words

RULES = [ModularArithmetic(), BracketedArithmetic()]
SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 12, 25, 64]


class Evaluator:
    """Recursive descent over symbols: sum = [-] term {(+|-) term}, term = factor {* factor}, factor = digit | (sum)."""

    def __init__(self, symbols: list[str]) -> None:
        self.left = symbols

    def value(self) -> int:
        found = self.sum()
        assert not self.left
        return found % 5

    def sum(self) -> int:
        total = -self.term() if self.took("-") else self.term()
        while self.left and self.left[0] in "+-":
            total += self.term() if self.took("+") else self.minus()
        return total

    def minus(self) -> int:
        assert self.took("-")
        return -self.term()

    def term(self) -> int:
        found = self.factor()
        while self.took("*"):
            found *= self.factor()
        return found

    def factor(self) -> int:
        if self.took("("):
            found = self.sum()
            assert self.took(")")
            return found
        if self.took("-"):  # the right operand of a bracketed operation
            return -self.factor()
        return int(self.left.pop(0))

    def took(self, symbol: str) -> bool:
        if self.left and self.left[0] == symbol:
            self.left.pop(0)
            return True
        return False


@pytest.mark.parametrize(
    ("text", "value"), [("2 + 3 * 4", 4), ("- 3 * 2 - 1", 3), ("( 4 - ( - 3 ) )", 2), ("( 1 - - 3 )", 4), ("4", 4)]
)
def test_the_evaluator(text: str, value: int):
    assert Evaluator(text.split()).value() == value


def written(rule, key: str, lengths: np.ndarray) -> Iterator[tuple[list[str], list[int]]]:
    """Symbols and targets of each expression with its "="."""
    ids, targets = rule.make(random_words(key, np.arange(len(lengths)), rule.num_words(int(lengths.max()))), lengths)
    for row, length in enumerate(lengths):
        yield [rule.symbols[index] for index in ids[row, : length + 1]], targets[row, : length + 1].tolist()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("mixed", [False, True], ids=["one length", "mixed lengths"])
def test_the_target_at_the_equals_sign_is_the_value_and_nothing_else_is_asked(rule, mixed: bool):
    for size in SIZES:
        lengths = np.random.default_rng(0).integers(1, size + 1, 100) if mixed else np.full(100, size)
        for (*expression, equals), (*before, answer) in written(rule, f"{size}", lengths):
            assert equals == "="
            assert set(before) <= {IGNORED}
            assert answer == Evaluator(expression).value(), expression


def test_without_brackets_digits_and_operators_take_turns():
    seen = set()
    for (*expression, _), _ in written(ModularArithmetic(), "x", np.full(200, 9)):
        assert all(symbol in "01234" for symbol in expression[::2])
        assert all(symbol in "+-*" for symbol in expression[1::2])
        assert expression[-2] in "+-"
        seen.update(expression)
    assert seen == set("01234+-*")


def test_with_brackets_every_operation_is_in_brackets_of_its_own_and_they_nest():
    deepest = 0
    for (*expression, _), _ in written(BracketedArithmetic(), "x", np.full(200, 60)):
        depths = np.cumsum([(symbol == "(") - (symbol == ")") for symbol in expression])
        assert depths.min() >= 0
        assert depths[-1] == 0
        deepest = max(deepest, int(depths.max()))
    assert deepest > 8


@pytest.mark.parametrize(("rule", "tolerance"), [(RULES[0], 0.01), (RULES[1], 0.03)], ids=["plain", "brackets"])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 21, 40])
def test_answers_are_near_even_so_that_chance_is_one_in_five(rule, tolerance: float, length: int):
    _, targets = rule.make(random_words("even", np.arange(20_000), length), np.full(20_000, length))
    answers = targets[:, length]
    shares = np.bincount(answers, minlength=5) / len(answers)
    assert abs(shares - rule.chance).max() < tolerance
