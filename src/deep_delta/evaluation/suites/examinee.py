"""Who is asked: a saved model, loaded when its turn comes, and the text that it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deep_delta.data.corpus import open_corpus
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation.seeds import Trained
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.manifest import DataIdentity
from deep_delta.runs.suites import ScoredModel

BASELINE_CHARACTERS = 1 << 25
"""The n-gram baselines read this much of a longer text."""


@dataclass(frozen=True)
class Examinee:
    """A saved model."""

    about: ScoredModel
    tokenizer: Tokenizer
    load: Callable[[], DdlTransformer]
    context: int | None = None
    """tokens that it holds at most"""
    data_spec: str | None = None
    """what `--data` said when it was trained"""
    trained: Trained | None = None
    """how it came about; None where nobody knows"""

    @property
    def name(self) -> str:
        return self.about.name


class TextGoneError(DataError):
    """The text that a model was trained on is not there as it was."""


def training_lines(identity: DataIdentity, spec: str | None) -> Iterator[str]:
    """Lines of the train split of a model's text, about `BASELINE_CHARACTERS` of them.

    `TextGoneError`, with the reason, where the text is gone or has changed.
    """
    try:
        corpus = open_corpus(identity.name if identity.name.startswith("synth:") else spec)
    except (ConfigError, DataError) as error:
        raise TextGoneError(f"its training text is not here: {error}") from None
    if corpus.sha256 != identity.sha256:
        raise TextGoneError(f"its training text is not here: {corpus.name} has changed")
    left = BASELINE_CHARACTERS
    for piece in corpus.pieces("train"):
        yield from piece.text.splitlines()
        left -= len(piece.text)
        if left < 0:
            return
