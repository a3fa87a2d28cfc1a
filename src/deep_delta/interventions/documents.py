"""What a model is looked at on: windows of the pieces of a text, or the sequences of a task, with a class a token."""

# N windows, T time

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.corpus import Corpus
from deep_delta.data.synthetic.task import Task
from deep_delta.data.synthetic.task_data import HELD_OUT_SEED
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation.compare import EXCERPT, Part, excerpt_batches, excerpts

TEXT_CLASSES = ("initial", "inside", "digit", "space", "newline", "punctuation", "other")
"""Of a text's tokens, by the first character that is no blank: initial is a letter that begins a word, inside one that
does not, and other are parts of characters and ends of text."""
TASK_CLASSES = ("asked", "given")
"""Of a task's tokens: those after which an answer is asked for, and the others."""

_MOST_DOCUMENTS = 64


@dataclass(frozen=True)
class Documents:
    """Windows to run a model on."""

    ids: np.ndarray
    """int64 [N, T]"""
    targets: np.ndarray
    """int64 [N, T], `IGNORED` where nothing is predicted"""
    document: np.ndarray
    """int64 [N]: which document a window is of, from 0"""
    classes: tuple[str, ...]
    """names of token classes"""
    codes: np.ndarray
    """int64 [N, T]: the class of each of `ids`"""

    def __post_init__(self) -> None:
        if not (self.targets != IGNORED).any():
            raise DataError("nothing to look at: no token is predicted")

    @property
    def asked(self) -> np.ndarray:
        """[N, T]: where a prediction counts."""
        return self.targets != IGNORED

    @property
    def real(self) -> np.ndarray:
        """[N, T]: the tokens up to a window's last prediction; what follows is padding."""
        return np.flip(np.logical_or.accumulate(np.flip(self.asked, 1), 1), 1)

    @property
    def num_documents(self) -> int:
        return int(self.document.max()) + 1


def text_documents(corpus: Corpus, split: Part, tokenizer: Tokenizer, *, seq_len: int, tokens: int) -> Documents:
    """About so many tokens of a split, as the first windows of up to 64 of the excerpts that `compare` cuts.

    The excerpts are spread evenly; a short text has fewer. `DataError` when there is no text or no token.
    """
    wanted = max(1, min(_MOST_DOCUMENTS, tokens // seq_len))
    chosen = excerpts(corpus, split, max_bytes=wanted * EXCERPT)
    step = len(chosen) / min(wanted, len(chosen))
    chosen = [chosen[int(number * step)] for number in range(min(wanted, len(chosen)))]
    rows = max(1, round(tokens / seq_len / len(chosen)))
    ids, targets = [], []
    document: list[int] = []
    for batch in excerpt_batches(tokenizer, chosen, seq_len):
        kept = (batch.targets != IGNORED).any(1).nonzero()[0][:rows]
        if len(kept):
            document += [len(set(document))] * len(kept)
            ids.append(batch.ids[kept])
            targets.append(batch.targets[kept])
    if not ids:
        raise DataError(f"nothing to look at: tokenizer {tokenizer.name} makes no token of {corpus.name}")
    found = np.concatenate(ids)
    return Documents(found, np.concatenate(targets), np.asarray(document), TEXT_CLASSES, text_codes(tokenizer, found))


def task_documents(task: Task, *, tokens: int) -> Documents:
    """About so many tokens of a task's test examples, at its training lengths; each is a document."""
    number = max(2, tokens // task.num_tokens(task.train.last))
    ids, targets = task.examples("test", HELD_OUT_SEED, np.arange(number), task.train)
    codes = np.where(targets != IGNORED, 0, 1)
    return Documents(ids, targets, np.arange(number), TASK_CLASSES, codes)


def text_codes(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """The `TEXT_CLASSES` of ids [N, T]; a letter begins a word where it follows none, or a blank."""
    texts = {int(one): tokenizer.decode([int(one)]) for one in np.unique(ids)}
    found = np.empty_like(ids)
    for row, window in enumerate(ids):
        before = " "
        for place, one in enumerate(window):
            text = texts[int(one)]
            found[row, place] = TEXT_CLASSES.index(_text_class(text, before))
            before = text[-1:]
    return found


def _text_class(text: str, before: str) -> str:
    core = text.lstrip()
    if not core:
        return "newline" if "\n" in text else "space" if text else "other"
    if core[0] == "\ufffd":
        return "other"
    if core[0].isdigit():
        return "digit"
    if core[0].isalpha() or core[0] == "_":
        inside = len(core) == len(text) and (before.isalnum() or before == "_")
        return "inside" if inside else "initial"
    return "punctuation"


def class_code(classes: Sequence[str], name: str) -> int:
    """The number of a class; `ConfigError` for a name that is none."""
    if name not in classes:
        raise ConfigError(f"token_class must be one of {', '.join(classes)}, got {name!r}")
    return classes.index(name)
