"""What several tasks share: something is told, then questions follow, each answered where it stands."""

# B batch, N tokens told, Q questions, T time

from __future__ import annotations

import numpy as np

from deep_delta.data.batches import IGNORED


class Memory:
    """Symbols of tasks that ask for values of keys: the keys, then the values."""

    keys: int
    values: int

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*(f"k{number}" for number in range(self.keys)), *(f"v{number}" for number in range(self.values)))

    @property
    def chance(self) -> float:
        return 1 / self.values


def asked_after(
    told_BN: np.ndarray, ends: np.ndarray, questions_BQ: np.ndarray, answers_BQ: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ids and targets [B, T]: the first `ends` [B] tokens that are told, then the first `counts` [B] questions.

    Nothing is asked while it is told. T is that of the longest sequence.
    """
    width, most = int((ends + counts).max()), questions_BQ.shape[1]
    question_BT = np.arange(width) - ends[:, None]  # which question a place is; negative while it is told
    asked_BT = (question_BT >= 0) & (question_BT < counts[:, None])
    question_BT = np.clip(question_BT, 0, most - 1)
    padded_BT = np.pad(told_BN, ((0, 0), (0, max(0, width - told_BN.shape[1]))))[:, :width]
    ids_BT = np.where(asked_BT, np.take_along_axis(questions_BQ, question_BT, axis=1), padded_BT)
    return ids_BT, np.where(asked_BT, np.take_along_axis(answers_BQ, question_BT, axis=1), IGNORED)


def in_turn(*columns: np.ndarray) -> np.ndarray:
    """One token of each of the columns [B, N] in turn, [B, N · columns]."""
    return np.stack(columns, axis=2).reshape(len(columns[0]), -1)
