"""Saved results of `ddl eval`: how many of a suite's questions each model gets right, and what chance would get."""

from __future__ import annotations

from typing import Literal

from deep_delta.runs.comparison import Origin, Ranking
from deep_delta.runs.manifest import DataIdentity
from deep_delta.runs.record import Record
from deep_delta.runs.result import Result


class ScoredModel(Record):
    """Which model."""

    name: str
    path: str
    variant: str
    seed: int
    step: int
    data: DataIdentity
    """what it was trained on"""


class SuiteRow(Record):
    """One model's answers to one kind of question."""

    model: str
    suite: Literal["language", "logic"]
    family: str
    """a group of phenomena or tasks; "all" in the rows that pool them"""
    phenomenon: str
    """or the task, with its options; "all" in the rows of a family"""
    split: str
    """seen, new_words or new_templates; of a task, the length of its test sequences"""
    count: int
    """answers that were scored"""
    skipped: int = 0
    """pairs that were left out: in their crossed group, one has members of unequal token count under a tokenizer, or is
    too long for a model"""
    score: float | None
    """share that is right, ties counting one half; None where nothing was scored"""
    low: float | None
    """of the 95% Wilson interval"""
    high: float | None
    ties: float | None = None
    """share of pairs with equal scores"""
    both_right: float | None = None
    """share of crossed groups with both pairs right; chance is 0.25"""
    exact: float | None = None
    """of a task: share of sequences with no wrong answer"""
    chance: float
    majority: float | None
    """of whoever always gives the answer that is right more often"""
    unigram: float | None = None
    """of word frequencies in the same training text; bigram and fivegram of the words before, too"""
    bigram: float | None = None
    fivegram: float | None = None
    reason: str | None = None
    """why there is no score, or no baseline from the training text"""


class SuiteComparison(Record):
    """Two models on the same questions of one family."""

    family: str
    models: tuple[str, str]
    difference: float
    """score of the first less that of the second"""
    clusters: int
    """templates, or sequences of a task, that differ: what is exchanged in the test"""
    p: float
    """exact McNemar, by clusters"""
    adjusted: float
    """p after Holm's correction over all families and pairs of models"""
    resolved: bool


class HarnessResult(Record):
    """One measure of one task of lm-evaluation-harness."""

    model: str
    task: str
    metric: str
    value: float
    error: float | None
    """its standard error, as the harness gives it"""
    samples: int


class SuiteResults(Result):
    """One run of `ddl eval`."""

    noun = "result"
    command = "ddl eval"

    kind: Literal["suites"] = "suites"
    format_version: Literal[1] = 1
    date: str
    """UTC, ISO 8601"""
    origin: Origin
    models: tuple[ScoredModel, ...]
    rows: tuple[SuiteRow, ...]
    comparisons: tuple[SuiteComparison, ...] = ()
    rule: str = ""
    """when a difference counts as resolved"""
    ranking: Ranking | None = None
    """variants by their wrong answers, where several seeds of one were given"""
    unranked: str | None = None
    """why there is no ranking, where several models of a variant were given"""
    harness: tuple[HarnessResult, ...] = ()
