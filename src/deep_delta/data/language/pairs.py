"""Minimal pairs: which there are of a phenomenon, and that none of them was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from deep_delta.data.language.draw import draws
from deep_delta.data.language.phenomena import PHENOMENA, Phenomenon
from deep_delta.data.language.templates import Group, Pair
from deep_delta.errors import ConfigError

NUM_PAIRS = 1000
"""Of each phenomenon and split: half as many crossed groups."""

SPLITS = ("seen", "new_words", "new_templates")
"""Sentences that are not trained on: of words and templates that are; of held-out words in templates that are; and of
words that are in held-out templates."""

_IN_TEST = 2  # one sentence in so many is kept for the suites


class Item(NamedTuple):
    """One pair, as it is asked."""

    phenomenon: str
    split: str
    template: int
    """for clusters: which template made it"""
    group: int
    """the two pairs of a group have the same number"""
    pair: Pair


def minimal_pairs(name: str, split: str, count: int = NUM_PAIRS) -> list[Item]:
    """The first `count` pairs of a phenomenon, the same ones each time; none is there twice.

    ConfigError for a phenomenon that there is not, and where there are not so many pairs.
    """
    if name not in PHENOMENA:
        raise ConfigError(f"unknown phenomenon {name!r}; there are {', '.join(PHENOMENA)}")
    found: list[Item] = []
    for number, (template, group) in enumerate(_groups(name, PHENOMENA[name], split, count)):
        found += [Item(name, split, template, number, pair) for pair in group]
        if len(found) >= count:
            return found[:count]
    raise ConfigError(f"{name} has {len(found)} different pairs of {split} words, and {count} were asked for")


def _groups(name: str, phenomenon: Phenomenon, split: str, count: int) -> Iterator[tuple[int, Group]]:
    templates = phenomenon.held if split == "new_templates" else phenomenon.seen
    known: set[str] = set()
    for attempt, draw in zip(
        range(200 * count + 10_000), draws(f"{name}/{split}", held=split == "new_words"), strict=False
    ):
        template = attempt % len(templates)
        group = templates[template](draw).set_in(*draw.setting())
        sentences = {sentence for pair in group for sentence in pair}
        is_new = split != "seen" or all(is_for_test(pair.good) for pair in group)  # the others are never trained on
        if not is_new or sentences & known or len(sentences) < 4:
            continue
        known |= sentences
        yield template, group


def is_for_test(sentence: str) -> bool:
    """Whether a sentence is kept out of the training text."""
    return hashlib.blake2b(sentence.encode(), digest_size=4).digest()[0] % _IN_TEST == 0
