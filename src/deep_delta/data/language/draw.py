"""Random words of the lexicon, from a row of random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from deep_delta.data.language.lexicon import (
    ADJECTIVES,
    ANIMALS,
    ENDS,
    INTRANSITIVE,
    IRREGULAR,
    MEN,
    NAMES,
    OPENINGS,
    PEOPLE,
    PLACES,
    PREPOSITIONS,
    QUALITIES,
    THINGS,
    TRANSITIVE,
    WOMEN,
    Noun,
    Pool,
    Verb,
)
from deep_delta.data.synthetic.words import random_words

Word = TypeVar("Word")
_NUMBERS = 32
_ROWS = 512


class Draw:
    """Chooses words, each by the next number of a row. held: words that are asked about are held-out ones."""

    def __init__(self, numbers: Sequence[int], *, held: bool) -> None:
        self._numbers, self.held = iter(numbers), held

    def of(self, words: Sequence[Word]) -> Word:
        """One of them."""
        return words[(next(self._numbers) >> 32) * len(words) >> 32]

    def asked(self, pool: Pool[Word]) -> Word:
        """A word that is asked about."""
        return self.of(pool.held if self.held else pool.seen)

    def seen(self, pool: Pool[Word]) -> Word:
        """A word beside it."""
        return self.of(pool.seen)

    def either(self, pool: Pool[Word]) -> Word:
        """A held-out word or another, as often."""
        return self.of(self.of((pool.seen, pool.held)))

    def animate(self) -> Noun:
        """An animal or a person, asked about."""
        return self.asked(self.of((ANIMALS, PEOPLE)))

    def other(self) -> Noun:
        """An animal or a person beside it."""
        return self.seen(self.of((ANIMALS, PEOPLE)))

    def thing(self) -> Noun:
        return self.seen(THINGS)

    def man(self) -> Noun:
        return self.asked(MEN)

    def woman(self) -> Noun:
        return self.asked(WOMEN)

    def name(self) -> str:
        return self.seen(NAMES)

    def place(self) -> str:
        return self.of(PLACES)

    def adjective(self) -> str:
        return self.of(ADJECTIVES)

    def quality(self) -> str:
        return self.of(QUALITIES)

    def near(self) -> str:
        return self.of(PREPOSITIONS)

    def verb(self) -> Verb:
        """Without an object."""
        return self.seen(INTRANSITIVE)

    def action(self) -> Verb:
        """With one."""
        return self.seen(TRANSITIVE)

    def irregular(self) -> Verb:
        return self.asked(IRREGULAR)

    def setting(self) -> tuple[str, str]:
        """What goes before a sentence and before its end."""
        opening, end = self.of(OPENINGS), self.of(ENDS)
        return opening and f"{opening} ", end and f" {end}"

    def subject(self) -> str:
        """Someone who is not asked about."""
        return self.of((self.name(), f"the {self.other().one}"))


def draws(key: str, *, held: bool) -> Iterator[Draw]:
    """Draws without end, the same ones for the same key."""
    start = 0
    while True:
        for row in random_words(f"language/{key}", np.arange(start, start + _ROWS), _NUMBERS).tolist():
            yield Draw(row, held=held)
        start += _ROWS
