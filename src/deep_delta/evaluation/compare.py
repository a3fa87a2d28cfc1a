"""Saved models on one text, whatever their tokenizers: ranked by bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple

import numpy as np

from deep_delta.data.batches import IGNORED
from deep_delta.data.corpus import SPLITS, Corpus, SplitName
from deep_delta.data.readers import Piece
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import ConfigError, DataError
from deep_delta.evaluation.flops import flops_per_token
from deep_delta.evaluation.language_model import Batch, perplexity, score_batches
from deep_delta.evaluation.ranking import rank_pieces
from deep_delta.evaluation.seeds import Trained, rank_over_seeds
from deep_delta.evaluation.snapshot import snapshot
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.comparison import Ranking
from deep_delta.runs.record import Record

EXCERPT = 4096
"""Characters of one excerpt."""
_BEFORE = 64


class Excerpt(NamedTuple):
    """A part of a document that is predicted. Its tokens are those that the passage around it has there, since a word
    that is cut in two, or a line that begins with nothing before it, has others."""

    text: str
    passage: str
    start: int
    """of the text in the passage, in characters"""
    before: str
    """the last characters before the passage: none where the document begins"""


BITS_PER_BYTE = "bits per byte"

Part = SplitName | Literal["all"]
"""Of a corpus."""


@dataclass(frozen=True)
class Candidate:
    """A model to compare, on the device where it is to run."""

    name: str
    variant: str
    step: int
    model: DdlTransformer
    tokenizer: Tokenizer
    seq_len: int
    """tokens of context that it was trained with"""
    trained: Trained | None = None
    """how it came about; None where nobody knows"""


class Row(Record):
    """One model's result."""

    name: str
    variant: str
    step: int
    tokenizer: str
    parameters: int
    flops_per_token: int
    """of the forward pass"""
    loss: float
    """nats per token of its own tokenizer"""
    perplexity: float | None
    """per token; None beyond the range of a float"""
    bits_per_byte: float
    tokens: int
    spectra: tuple[dict[str, Any], ...]
    """one `deep_delta.spectral` record per sublayer; empty for a model without gates"""


class Comparison(Record):
    """Models on the same text."""

    format_version: Literal[1] = 1
    data: str
    data_sha256: str
    split: str
    num_bytes: int
    """of text that every model predicted"""
    excerpts: int
    rows: tuple[Row, ...]
    """best first"""
    ranking: Ranking
    """of the models"""
    seeds: Ranking | None = None
    """of the variants over their seeds, where a variant is there with several"""
    seeds_problem: str | None = None
    """why the variants that are there several times are not ranked over seeds"""


def compare(
    candidates: Iterable[Candidate],
    corpus: Corpus,
    *,
    split: Part = "validation",
    max_bytes: int = 1 << 18,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Comparison:
    """Score every candidate on the same excerpts of `corpus`, about `max_bytes` evenly spread over the split.

    Each excerpt is predicted whole, in windows of the candidate's `seq_len`, so that all tokenizers account for the
    same bytes. Tokens and windows are those of training: they run on from excerpt to excerpt, and follow the token
    before, or the end-of-text token where a document begins. Candidates are taken one at a time, as an iterator loads
    them.

    Raises `DataError` when there is no text, no token or no candidate, `ConfigError` when two have one name,
    `NumericsError`.
    """
    texts = excerpts(corpus, split, max_bytes=max_bytes)
    sizes = [len(one.text.encode()) for one in texts]
    rows: dict[str, Row] = {}
    bits: dict[str, list[float]] = {}
    trained: list[tuple[Trained, float]] = []
    for candidate in candidates:
        if candidate.name in rows:
            raise ConfigError(f"{candidate.name} is given twice; compare different checkpoints")
        rows[candidate.name], bits[candidate.name] = _score(candidate, texts, precision)
        if candidate.trained is not None:
            trained.append((candidate.trained, rows[candidate.name].bits_per_byte))
    if not rows:
        raise DataError("nothing to evaluate: no checkpoint was given")
    ranking = rank_pieces(bits, sizes, BITS_PER_BYTE)
    seeds, problem = rank_over_seeds(trained, BITS_PER_BYTE)
    return Comparison(
        data=corpus.name,
        data_sha256=corpus.sha256,
        split=split,
        num_bytes=sum(sizes),
        excerpts=len(texts),
        rows=tuple(rows[standing.variant] for standing in ranking.standings),
        ranking=ranking,
        seeds=seeds,
        seeds_problem=problem,
    )


def excerpts(corpus: Corpus, split: Part, *, max_bytes: int) -> list[Excerpt]:
    """Every n-th piece of the split, n being the smallest that leaves about `max_bytes`; `DataError` for no text."""
    splits = SPLITS if split == "all" else (split,)
    every = max(1, math.ceil(sum(corpus.num_bytes(each) for each in splits) / max_bytes))
    pieces = (piece for each in splits for piece in corpus.pieces(each))
    chosen = list(islice(_cut(pieces, whole=every == 1), 0, None, every))
    if not chosen:
        raise DataError(f"nothing to evaluate: {corpus.name} has no text in its {split} split")
    return chosen


def windows(ids: Sequence[int] | np.ndarray, seq_len: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets [B, seq_len] in which each of `ids` is a target once, the first after the token `start`.

    What is left over of the last window repeats `start` and is `IGNORED`.
    """
    rows = math.ceil(len(ids) / seq_len)
    inputs = np.full(rows * seq_len, start, dtype=np.int64)
    targets = np.full(rows * seq_len, IGNORED, dtype=np.int64)
    inputs[1 : len(ids)] = ids[:-1]
    targets[: len(ids)] = ids
    return inputs.reshape(rows, seq_len), targets.reshape(rows, seq_len)


def _cut(pieces: Iterable[Piece], *, whole: bool) -> Iterator[Excerpt]:
    """Every excerpt in its whole piece, or in no more of it than an excerpt's length on both sides."""
    behind = ""
    for piece in pieces:
        behind = "" if piece.begins else behind[-_BEFORE:]
        margin = len(piece.text) if whole else EXCERPT
        for start in range(0, len(piece.text), EXCERPT):
            first = max(0, start - margin)
            yield Excerpt(
                text=piece.text[start : start + EXCERPT],
                passage=piece.text[first : start + EXCERPT + margin],
                start=start - first,
                before=piece.text[max(0, first - _BEFORE) : first] if first else behind,
            )
        behind = piece.text


def excerpt_batches(tokenizer: Tokenizer, excerpts: Iterable[Excerpt], seq_len: int) -> Iterator[Batch]:
    """The windows of each excerpt's tokens; a token that reaches from one to the next is the next one's."""
    for (passage, before), parts in groupby(excerpts, key=lambda one: (one.passage, one.before)):
        (ids,), (sizes,) = tokenizer.encode_batch([passage]), tokenizer.count_bytes([passage])
        first = (tokenizer.encode(before) or [tokenizer.end_of_text])[-1]
        inputs, targets = windows(ids, seq_len, first)
        ends = np.cumsum(sizes, dtype=np.int64)
        for part in parts:
            start, size = len(passage[: part.start].encode()), len(part.text.encode())
            low, high = np.searchsorted(ends, (start, start + size), side="right").tolist()
            low = low if part.start else 0
            rows = slice(low // seq_len, math.ceil(high / seq_len))
            places = np.arange(targets.size).reshape(targets.shape)[rows]
            asked = (low <= places) & (places < high)
            yield Batch(inputs[rows], np.where(asked, targets[rows], IGNORED), size)


def _score(
    candidate: Candidate, texts: Sequence[Excerpt], precision: Literal["fp32", "bf16"]
) -> tuple[Row, list[float]]:
    """A candidate's row, and its bits per byte of each excerpt."""
    model, tokenizer = candidate.model, candidate.tokenizer
    batches = list(excerpt_batches(tokenizer, texts, candidate.seq_len))
    asked = next((batch for batch in batches if (batch.targets != IGNORED).any()), None)
    if asked is None:
        raise DataError(f"nothing to evaluate: tokenizer {tokenizer.name} of {candidate.name} makes no token of it")
    scores = list(score_batches(model, batches, precision=precision))
    nats, tokens = math.fsum(score.nats for score in scores), sum(score.tokens for score in scores)
    whole = (asked.targets != IGNORED).all(axis=1)
    probe = asked.ids[whole] if whole.any() else asked.ids[:1, : int((asked.targets != IGNORED).sum())]
    loss = nats / tokens
    row = Row(
        name=candidate.name,
        variant=candidate.variant,
        step=candidate.step,
        tokenizer=tokenizer.name,
        parameters=model.num_parameters(),
        flops_per_token=flops_per_token(model.config, candidate.seq_len).forward,
        loss=loss,
        perplexity=perplexity(loss) if math.isfinite(perplexity(loss)) else None,
        bits_per_byte=nats / math.log(2) / sum(batch.num_bytes for batch in batches),
        tokens=tokens,
        spectra=snapshot(model, probe, precision=precision),
    )
    return row, [score.nats / math.log(2) / score.num_bytes for score in scores]
