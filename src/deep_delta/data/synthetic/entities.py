"""Entity tracking: things are moved between boxes; where is each now?"""

# B batch

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.synthetic.queries import asked_after, in_turn
from deep_delta.data.synthetic.words import below, strands


@dataclass(frozen=True)
class Entities:
    """Things in boxes: "move thing box" puts one thing into a box, "pour box box" all that is in the first into the
    second; then each thing, whose box is asked for  (after Kim and Schuster, 2023, arXiv 2305.02363).

    At first every thing is moved once; a length counts what is done after that, half of it pouring, in the mean.
    """

    things: int
    boxes: int
    unit = "operations"
    longest = None

    @property
    def symbols(self) -> tuple[str, ...]:
        boxes = (f"b{number}" for number in range(self.boxes))
        return ("move", "pour", *(f"t{number}" for number in range(self.things)), *boxes)

    @property
    def chance(self) -> float:
        return 1 / self.boxes

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return 3 * (lengths + self.things) + self.things

    def num_words(self, length: int) -> int:
        return 3 * (length + self.things) + self.things

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`."""
        most = int(lengths.max()) + self.things
        pours, first, second = self._operations(words, most)
        rows = np.arange(len(words))
        where = np.zeros((len(words), self.things), np.int64)
        ends = lengths + self.things
        for place in range(most):
            inside, pour = place < ends, pours[:, place]
            moved = rows[inside & ~pour]
            where[moved, first[moved, place]] = second[moved, place]
            poured = (inside & pour)[:, None] & (where == first[:, place, None])
            where = np.where(poured, second[:, place, None], where)
        box = 2 + self.things
        named = np.where(pours, box + first, 2 + first)
        order = np.argsort(words[:, : self.things], axis=1)
        answers = box + np.take_along_axis(where, order, axis=1)
        told = in_turn(pours.astype(np.int64), named, box + second)
        return asked_after(told, 3 * ends, 2 + order, answers, np.full_like(ends, self.things))

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Which operations they are, and on what, but not into which box."""
        most = int(lengths.max()) + self.things
        pours, first, _ = self._operations(words, most)
        return np.where(np.arange(most) < (lengths + self.things)[:, None], 2 * first + pours, -1)

    def _operations(self, words: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether each pours, what is moved or poured from, and into which box; [B, most]."""
        early = np.arange(most) < self.things
        for_kind, for_first, for_second = strands(words, self.things, 3, most)
        pours = (below(for_kind, 2) == 1) & ~early
        first = np.where(pours, below(for_first, self.boxes), below(for_first, self.things))
        first = np.where(early, np.arange(most), first)
        second = below(for_second, self.boxes)
        other = (first + 1 + below(for_second, self.boxes - 1)) % self.boxes
        return pours, first, np.where(pours, other, second)
