"""What is where now: nested brackets, and things that are moved between boxes."""

# B batch, T time, K kinds of brackets

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.words import below, strands

_OPENING, _CLOSING = "([{<abcd", ")]}>ABCD"
MOST_KINDS = len(_OPENING)


@dataclass(frozen=True)
class Dyck:
    """Brackets of some kinds, nested at most `depth` deep; after each the one that may close next is asked for, or "."
    where none is open  (Dyck-k; Hewitt et al., 2020, arXiv 2010.07515, have bounded depth).

    At each place a bracket opens or closes evenly, as far as the depth allows. A length counts brackets.
    """

    kinds: int
    depth: int
    unit = "brackets"
    longest = None

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*_OPENING[: self.kinds], *_CLOSING[: self.kinds], ".")

    @property
    def chance(self) -> float:
        return 1 / (self.kinds + 1)

    def num_tokens(self, lengths: np.ndarray) -> np.ndarray:
        return lengths

    def num_words(self, length: int) -> int:
        return 2 * length

    def make(self, words: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Rule`."""
        opens_BT, most, rows = self.skeleton(words, lengths) == 1, int(lengths.max()), np.arange(len(words))
        kinds_BT = below(strands(words, 0, 2, most)[1], self.kinds)
        stack, depth = np.zeros((len(words), self.depth + 1), np.int64), np.zeros(len(words), np.int64)
        ids_BT, targets_BT = np.empty((2, len(words), most), np.int64)
        for place in range(most):
            opens = opens_BT[:, place]
            top = stack[rows, np.maximum(depth - 1, 0)]
            ids_BT[:, place] = np.where(opens, kinds_BT[:, place], self.kinds + top)
            stack[rows[opens], depth[opens]] = kinds_BT[opens, place]
            depth = depth + np.where(opens, 1, -1)
            top = stack[rows, np.maximum(depth - 1, 0)]
            targets_BT[:, place] = np.where(depth > 0, self.kinds + top, 2 * self.kinds)
        return ids_BT, targets_BT

    def skeleton(self, words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """1 where a bracket opens, 0 where one closes, −1 beyond the length; [B, T]."""
        most = int(lengths.max())
        wants_BT, depth = below(strands(words, 0, 2, most)[0], 2), np.zeros(len(words), np.int64)
        opens_BT = np.empty((len(words), most), np.int64)
        for place in range(most):
            opens_BT[:, place] = np.where(depth == 0, 1, np.where(depth == self.depth, 0, wants_BT[:, place]))
            depth += 2 * opens_BT[:, place] - 1
        return np.where(np.arange(most) < lengths[:, None], opens_BT, -1)


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
        told = np.stack([pours.astype(np.int64), named, box + second], axis=2).reshape(len(words), 3 * most)

        width = 3 * most + self.things
        query_BT = np.arange(width) - 3 * ends[:, None]
        asked_BT = (query_BT >= 0) & (query_BT < self.things)
        order = np.argsort(words[:, : self.things], axis=1)
        thing_BT = np.take_along_axis(order, np.clip(query_BT, 0, self.things - 1), axis=1)
        ids_BT = np.where(asked_BT, 2 + thing_BT, np.pad(told, ((0, 0), (0, self.things))))
        return ids_BT, np.where(asked_BT, box + np.take_along_axis(where, thing_BT, axis=1), IGNORED)

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
