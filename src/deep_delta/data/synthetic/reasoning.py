"""What follows: forward chaining over rules, and the value of boolean expressions."""

# B batch, N rules, L leaves, T time

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.words import below, strands

_AND, _THEN, _FACT, _ASK, _YES, _NO = range(6)
_TRIES = 32


@dataclass(frozen=True)
class Chaining:
    """Rules "a & b > c", facts "a !", then "q ?": does q follow?  (SimpleLogic; Zhang et al., 2022, arXiv 2205.11502)

    A length counts rules, and a third of the atoms are facts, so that neither number tells the answer. Rules are drawn
    again until some atom follows by a rule and another one, in which a rule ends too, does not; which of the two is
    asked about is then drawn evenly. `by_labels` false draws rules freely and works out what follows (rule priority);
    true draws first what may follow, lets every other rule end there, and so every rule that would lead out of it
    (label priority): another distribution of the same questions.
    """

    atoms: int
    by_labels: bool
    unit = "rules"
    longest = None
    chance = 0.5

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("&", ">", "!", "?", "yes", "no", *(f"p{number}" for number in range(self.atoms)))

    @property
    def num_facts(self) -> int:
        return max(1, self.atoms // 3)

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 5 * lengths + 2 * self.num_facts + 2

    def num_words(self, length: int) -> int:
        return 2 * self.atoms + 1 + 3 * length * _TRIES

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`."""
        rows = np.arange(len(words))
        facts_BF, rules_BN3, known_BA, may_ask_BA = self._drawn(words, lengths)
        follows_B = below(words[:, 2 * self.atoms], 2) == 1
        fits_BA = may_ask_BA & (known_BA == follows_B[:, None])
        fits_BA = np.where(fits_BA.any(axis=1, keepdims=True), fits_BA, True)
        asked_B = np.argmax(np.where(fits_BA, words[:, self.atoms : 2 * self.atoms], 0), axis=1)

        width, most = int(self.num_tokens(lengths).max()), rules_BN3.shape[1]
        ids_BT, targets_BT = np.zeros((len(words), width), np.int64), np.full((len(words), width), IGNORED)
        a, b, c = (6 + rules_BN3[..., side] for side in range(3))
        told = np.stack([a, np.full_like(a, _AND), b, np.full_like(a, _THEN), c], axis=2)
        ids_BT[:, : 5 * most] = told.reshape(len(words), 5 * most)
        end_B = 5 * lengths
        for number in range(self.num_facts):
            ids_BT[rows, end_B + 2 * number], ids_BT[rows, end_B + 2 * number + 1] = 6 + facts_BF[:, number], _FACT
        end_B = end_B + 2 * self.num_facts
        ids_BT[rows, end_B], ids_BT[rows, end_B + 1] = 6 + asked_B, _ASK
        targets_BT[rows, end_B + 1] = np.where(known_BA[rows, asked_B], _YES, _NO)
        return ids_BT, targets_BT

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The rules, whatever the names of their atoms: each atom by the place where it first stands."""
        rules_BN3 = self._drawn(words, lengths)[1]
        inside_BN = np.arange(rules_BN3.shape[1]) < lengths[:, None]
        flat = np.where(inside_BN[..., None], rules_BN3, -1).reshape(len(words), -1)
        first = np.argmax(flat[:, None, :] == flat[:, :, None], axis=2)
        return np.where(flat < 0, -1, first)

    def _drawn(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Facts [B, F], rules [B, N, 3] (two premises and what follows), which atoms follow, and which may be asked
        about: those that a rule ends in and that are no facts, both [B, A]."""
        most, start = int(lengths.max()), 2 * self.atoms + 1
        order_BA = np.argsort(words[:, : self.atoms], axis=1)
        rules_BN3 = np.zeros((len(words), most, 3), np.int64)
        known_BA, may_ask_BA = np.zeros((2, len(words), self.atoms), bool)
        left = np.arange(len(words))
        tries = strands(words, start, 3 * _TRIES, most)
        for attempt in range(_TRIES):
            mine = np.stack(tries[3 * attempt : 3 * attempt + 3], axis=2)[left]
            rules = self._rules(mine, order_BA[left])
            known, ends = self._closed(rules, order_BA[left], np.arange(most) < lengths[left, None])
            rules_BN3[left], known_BA[left], may_ask_BA[left] = rules, known, ends
            good = (ends & known).any(axis=1) & (ends & ~known).any(axis=1)
            left = left[~good]
            if not len(left):
                break
        return order_BA[:, : self.num_facts], rules_BN3, known_BA, may_ask_BA

    def _rules(self, words_BN3: np.ndarray, order_BA: np.ndarray) -> np.ndarray:
        rules_BN3 = below(words_BN3, self.atoms)
        if not self.by_labels:
            return rules_BN3
        half = max(self.num_facts + 1, self.atoms // 2)  # of the order: what may follow
        place_BA = np.argsort(order_BA, axis=1)
        holds = (
            np.take_along_axis(place_BA, rules_BN3.reshape(len(rules_BN3), -1), axis=1).reshape(rules_BN3.shape) < half
        )
        leads_out = holds[..., 0] & holds[..., 1] & ~holds[..., 2]
        within = np.take_along_axis(order_BA, rules_BN3[..., 2] % half, axis=1)
        every_other = np.arange(rules_BN3.shape[1]) % 2 == 0
        rules_BN3[..., 2] = np.where(leads_out | every_other, within, rules_BN3[..., 2])
        return rules_BN3

    def _closed(self, rules: np.ndarray, order_BA: np.ndarray, inside_BN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which atoms follow, and which of those that are no facts a rule ends in."""
        rows_B1 = np.arange(len(rules))[:, None]
        is_fact = np.zeros((len(rules), self.atoms), bool)
        is_fact[rows_B1, order_BA[:, : self.num_facts]] = True
        ends = _marked(rules[..., 2], inside_BN, self.atoms) & ~is_fact
        known = is_fact
        for _ in range(self.atoms):
            fires = known[rows_B1, rules[..., 0]] & known[rows_B1, rules[..., 1]] & inside_BN
            more = known | _marked(rules[..., 2], fires, self.atoms)
            if (more == known).all():
                break
            known = more
        return known, ends


def _marked(atoms_BN: np.ndarray, where_BN: np.ndarray, num_atoms: int) -> np.ndarray:
    """Which of all atoms stand at the places that are true, bool [B, A]."""
    found = np.zeros((len(atoms_BN), num_atoms), bool)
    rows, places = np.nonzero(where_BN)
    found[rows, atoms_BN[rows, places]] = True
    return found


_TRUE, _FALSE, _CONJ, _DISJ, _OPEN, _CLOSE, _NOT, _SAME, _EQUALS = range(9)


@dataclass(frozen=True)
class BooleanExpression:
    """! ( T & ( F | T ) ) = and its value. A length counts the leaves T and F; the shape of the tree is random, at most
    `depth` deep where so many leaves fit.

    Before the whole stands ! (not) or + (as it is), evenly, so that the value is even whatever the rest.
    """

    depth: int
    unit = "leaves"
    chance = 0.5

    @property
    def longest(self) -> int:
        return 2**self.depth

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("T", "F", "&", "|", "(", ")", "!", "+", "=")

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 4 * lengths - 1

    def num_words(self, length: int) -> int:
        return 3 * length + 1

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`."""
        width = int(self.num_tokens(lengths).max())
        ids_BT, targets_BT = np.zeros((len(words), width), np.int64), np.full((len(words), width), IGNORED)
        for row, (numbers, length) in enumerate(zip(words.tolist(), lengths.tolist(), strict=True)):
            expression, value = self._expression(numbers, length)
            turned = numbers[3 * length] >> 63
            tokens = [_NOT if turned else _SAME, *expression, _EQUALS]
            ids_BT[row, : len(tokens)] = tokens
            targets_BT[row, len(tokens) - 1] = _TRUE if value != bool(turned) else _FALSE
        return ids_BT, targets_BT

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The expression with every leaf alike."""
        ids_BT, _ = self.make(words, lengths)
        inside = np.arange(ids_BT.shape[1]) < self.num_tokens(lengths)[:, None]
        shape = np.where((ids_BT == _FALSE) | (ids_BT == _SAME) | (ids_BT == _NOT), _TRUE, ids_BT)
        return np.where(inside, shape, -1)

    def _expression(self, numbers: list[int], leaves: int) -> tuple[list[int], bool]:
        """Tokens and value of a random tree. Of the numbers, a leaf takes one and an inner node two."""
        given = iter(numbers)

        def node(count: int, depth: int) -> tuple[list[int], bool]:
            number = next(given) >> 32
            if count == 1:
                value = bool(number >> 31)
                return [_TRUE if value else _FALSE], value
            most = 2 ** (depth - 1)
            least = max(1, count - most)
            left = least + number * (min(count - 1, most) - least + 1) // 2**32
            joined = next(given) >> 63
            (one, first), (other, second) = node(left, depth - 1), node(count - left, depth - 1)
            value = (first or second) if joined else (first and second)
            return [_OPEN, *one, _DISJ if joined else _CONJ, *other, _CLOSE], value

        return node(leaves, self.depth)
