"""The linguistic suite: minimal pairs, scored by which sentence is likelier."""

# N pairs

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from deep_delta.data.language.pairs import SPLITS, Item, minimal_pairs
from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import DataError
from deep_delta.evaluation.statistics import wilson
from deep_delta.evaluation.suites.examinee import Examinee, TextGoneError, training_lines
from deep_delta.evaluation.suites.ngrams import NGrams
from deep_delta.evaluation.suites.pairing import Asked
from deep_delta.evaluation.suites.pairs import BATCH_SIZE, both_right, log_likelihoods, preferences
from deep_delta.runs.suites import SuiteRow

ORDERS = {"unigram": 1, "bigram": 2, "fivegram": 5}

Score = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Questions:
    """Items of groups that every tokenizer cuts into pairs of equal length, which every model holds; and how many
    others there are of each phenomenon and split. Groups stay whole, or critical words would no longer be crossed."""

    items: tuple[Item, ...]
    skipped: Mapping[tuple[str, str], int]

    @classmethod
    def ask(
        cls, phenomena: Sequence[str], count: int, tokenizers: Sequence[Tokenizer], context: float = math.inf
    ) -> Questions:
        """The pairs of these phenomena in all splits, of at most `context` tokens. `DataError` where none is left."""
        kept: list[Item] = []
        skipped: dict[tuple[str, str], int] = {}
        for name in phenomena:
            for split in SPLITS:
                items = minimal_pairs(name, split, count)
                equal = np.ones(len(items), bool)
                for tokenizer in tokenizers:
                    good, bad = (_lengths(tokenizer, [item.pair[side] for item in items]) for side in (0, 1))
                    equal &= (good == bad) & (good <= context)
                groups = np.array([item.group for item in items])
                equal &= ~np.isin(groups, groups[~equal])
                kept += [item for item, keep in zip(items, equal, strict=True) if keep]
                skipped[name, split] = int((~equal).sum())
        if not kept:
            raise DataError(
                "no pair has members of equal token count that the model holds; train with --tokenizer bpe, under "
                "which every word is one token"
            )
        return cls(tuple(kept), skipped)

    def answers(self, score: Score) -> np.ndarray:
        """1, 0 or 0.5 for each item, float64 [N], from the scores of sentences."""
        good, bad = (score([item.pair[side] for item in self.items]) for side in (0, 1))
        return preferences(good, bad)


def _lengths(tokenizer: Tokenizer, sentences: Sequence[str]) -> np.ndarray:
    return np.array([len(ids) for ids in tokenizer.encode_batch(sentences)])


@dataclass(frozen=True)
class Baselines:
    """What n-grams of a training text answer; None with the reason where it is gone."""

    answers: Mapping[str, np.ndarray]
    reason: str | None

    @classmethod
    def of(cls, examinee: Examinee, questions: Questions) -> Baselines:
        try:
            counts = NGrams(training_lines(examinee.about.data, examinee.data_spec))
        except TextGoneError as problem:
            return cls({}, str(problem))
        found = {}
        for name, order in ORDERS.items():
            found[name] = questions.answers(partial(counts.log_likelihoods, order=order))
        return cls(found, None)


def language_rows(
    examinees: Sequence[Examinee],
    phenomena: Sequence[str],
    count: int,
    *,
    batch_size: int = BATCH_SIZE,
    told: Callable[[str], None] = lambda name: None,
) -> tuple[list[SuiteRow], list[Asked]]:
    """Ask every model: a row for each phenomenon and split, then for each family, then for all; and the answers.

    told: called with the name of each model before its turn.
    """
    context = min((examinee.context for examinee in examinees if examinee.context is not None), default=math.inf)
    questions = Questions.ask(phenomena, count, [examinee.tokenizer for examinee in examinees], context)
    rows: list[SuiteRow] = []
    answers: dict[str, np.ndarray] = {}
    known: dict[tuple[str, str], Baselines] = {}
    for examinee in examinees:
        told(examinee.name)
        model = examinee.load()

        score = partial(log_likelihoods, model, examinee.tokenizer, batch_size=batch_size)
        answers[examinee.name] = questions.answers(score)
        text = (examinee.about.data.sha256, examinee.about.data.name)
        if text not in known:
            known[text] = Baselines.of(examinee, questions)
        rows += _rows(examinee.name, questions, answers[examinee.name], known[text])
    return rows, asked(questions.items, answers)


def _rows(name: str, questions: Questions, answers: np.ndarray, baselines: Baselines) -> list[SuiteRow]:
    items = questions.items
    splits = np.array([item.split for item in items])
    phenomena = np.array([item.phenomenon for item in items])
    families = np.array([PHENOMENA[item.phenomenon].family for item in items])
    names = list(dict.fromkeys(key[0] for key in questions.skipped))
    rows = []

    def add(family: str, phenomenon: str, split: str, chosen: np.ndarray, skipped: int) -> None:
        rows.append(_row(name, family, phenomenon, split, items, chosen, answers, baselines, skipped))

    for phenomenon in names:
        for split in SPLITS:
            chosen = (phenomena == phenomenon) & (splits == split)
            add(PHENOMENA[phenomenon].family, phenomenon, split, chosen, questions.skipped[phenomenon, split])
    for family in dict.fromkeys(PHENOMENA[phenomenon].family for phenomenon in names):
        for split in SPLITS:
            skipped = {one: n for (one, where), n in questions.skipped.items() if where == split}
            left = sum(n for one, n in skipped.items() if PHENOMENA[one].family == family)
            add(family, "all", split, (families == family) & (splits == split), left)
    for split in SPLITS:
        left = sum(n for (_, where), n in questions.skipped.items() if where == split)
        add("all", "all", split, splits == split, left)
    return rows


def _row(
    name: str,
    family: str,
    phenomenon: str,
    split: str,
    items: Sequence[Item],
    chosen: np.ndarray,
    answers: np.ndarray,
    baselines: Baselines,
    skipped: int,
) -> SuiteRow:
    mine = answers[chosen]
    about: dict[str, Any] = {
        "model": name,
        "suite": "language",
        "family": family,
        "phenomenon": phenomenon,
        "split": split,
    }
    if not len(mine):
        reason = "no pair has members of equal token count that every model holds"
        return SuiteRow(
            **about, count=0, skipped=skipped, score=None, low=None, high=None, chance=0.5, majority=None, reason=reason
        )
    low, high = wilson(float(mine.sum()), len(mine))
    groups = [(item.phenomenon, item.split, item.group) for item, keep in zip(items, chosen, strict=True) if keep]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    by_counts: dict[str, Any] = {order: float(found[chosen].mean()) for order, found in baselines.answers.items()}
    return SuiteRow(
        **about,
        count=len(mine),
        skipped=skipped,
        score=float(mine.mean()),
        low=low,
        high=high,
        ties=float((mine == 0.5).mean()),
        both_right=both_right(mine, np.array([numbers[group] for group in groups])),
        chance=0.5,
        majority=_majority([item for item, keep in zip(items, chosen, strict=True) if keep]),
        reason=baselines.reason,
        **by_counts,
    )


def _majority(items: Sequence[Item]) -> float:
    """Right answers of whoever prefers, of two critical words, the one that is right more often in these items."""
    right: dict[frozenset[str], dict[str, int]] = {}
    for item in items:
        word, other = critical_words(item)
        counts = right.setdefault(frozenset((word, other)), {})
        counts[word] = counts.get(word, 0) + 1
    return sum(max(counts.values()) for counts in right.values()) / len(items)


def critical_words(item: Item) -> tuple[str, str]:
    """The word in which the members of a pair differ: of the good one, and of the bad one."""
    good, bad = (sentence.split() for sentence in item.pair)
    (place,) = [index for index, (one, other) in enumerate(zip(good, bad, strict=True)) if one != other]
    return good[place], bad[place]


def asked(items: Sequence[Item], answers: Mapping[str, np.ndarray]) -> list[Asked]:
    """The questions of each family, and all of them, with templates as clusters."""
    families = np.array([PHENOMENA[item.phenomenon].family for item in items])
    templates = {key: number for number, key in enumerate(dict.fromkeys(map(_template, items)))}
    clusters = np.array([templates[_template(item)] for item in items])
    found = []
    for family in [*dict.fromkeys(families.tolist()), "all"]:
        chosen = families == family if family != "all" else np.ones(len(items), bool)
        found.append(Asked(family, {name: one[chosen] for name, one in answers.items()}, clusters[chosen]))
    return found


def _template(item: Item) -> tuple[str, bool, int]:
    """With known and with held-out words it is the same template."""
    return item.phenomenon, item.split == "new_templates", item.template
