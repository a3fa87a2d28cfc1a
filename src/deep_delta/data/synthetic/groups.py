"""Word problems of groups: after every token, the product of all tokens so far.

The word problems of A5 and S5 are complete for NC¹ (Barrington, 1989), so that no transformer and no diagonal
state-space model of constant depth solves them at every length, unless TC⁰ = NC¹ (Merrill, Petty and Sabharwal, 2024,
arXiv 2404.08819). S3 is solvable, and so is Z2, whose word problem is parity.
"""

# B batch, T time

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from deep_delta.data.synthetic.words import below


@dataclass(frozen=True)
class Group:
    """A finite group. table: int64 [n, n]; table[a, b] is a·b. The identity is element 0."""

    elements: tuple[str, ...]
    table: np.ndarray


@dataclass(frozen=True)
class WordProblem:
    """x_t = x_{t−1} · g_t from x_0 = 1, asked after every token g_t, each drawn evenly. A length counts tokens."""

    group: Group
    unit = "tokens"
    longest = None

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.group.elements

    @property
    def chance(self) -> float:
        return 1 / len(self.group.elements)

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return lengths

    def num_words(self, length: int) -> int:
        return length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`; errors: none."""
        ids_BT = below(words[:, : int(lengths.max())], len(self.group.elements))
        states_BT = np.empty_like(ids_BT)
        state_B = np.zeros(len(ids_BT), dtype=np.int64)
        for t in range(ids_BT.shape[1]):
            states_BT[:, t] = state_B = self.group.table[state_B, ids_BT[:, t]]
        return ids_BT, states_BT


def cyclic(order: int) -> Group:
    """Z_n: 0 … n − 1 under addition."""
    numbers = np.arange(order)
    return Group(tuple(str(number) for number in numbers), (numbers[:, None] + numbers) % order)


def symmetric(degree: int, *, even: bool = False) -> Group:
    """S_n, or with `even` A_n. "231" takes 1 to 2, 2 to 3 and 3 to 1; in a·b, a is applied first."""
    chosen = [one for one in permutations(range(degree)) if not even or _is_even(one)]
    images = np.array(chosen)  # in lexicographic order, so that the identity comes first
    places = degree ** np.arange(degree)[::-1]
    number_of = {code: number for number, code in enumerate((images @ places).tolist())}
    products = images[None, :, :].repeat(len(images), axis=0)
    products = np.take_along_axis(products, images[:, None, :].repeat(len(images), axis=1), axis=2)
    table = np.vectorize(number_of.__getitem__, otypes=[np.int64])(products @ places)
    return Group(tuple("".join(str(image + 1) for image in one) for one in chosen), table)


def _is_even(images: tuple[int, ...]) -> bool:
    return sum(one > other for one, other in combinations(images, 2)) % 2 == 0
