"""What the linguistic suite asks, and in which templates: some are in the training text, others never are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from deep_delta.data.language.templates import (
    Template,
    across_clause,
    across_phrase,
    article,
    case,
    coordination,
    determiner,
    filler,
    inversion,
    participle,
    past,
    polarity,
    reflexive_gender,
    reflexive_number,
    subject_verb,
    tense,
    there,
    transitivity,
)

Family = Literal["agreement", "binding", "form", "licensing", "structure"]


class Phenomenon(NamedTuple):
    """One kind of knowledge. held: templates that are never in the training text."""

    family: Family
    about: str
    seen: tuple[Template, ...]
    held: tuple[Template, ...]


PHENOMENA: Mapping[str, Phenomenon] = {
    "determiner_noun": Phenomenon(
        "agreement",
        "this dog, these dogs",
        (determiner("{name} {action} _ # ."), determiner("_ # {verb} ."), determiner("{name} {verb} beside _ # .")),
        (determiner("_ {adj} # {verb} ."), determiner("{name} {action} _ {adj} # .")),
    ),
    "subject_verb": Phenomenon(
        "agreement",
        "the dog sleeps, the dogs sleep",
        (subject_verb("the # _ ."), subject_verb("the {adj} # _ in the {place} ."), subject_verb("the # _ing .")),
        (subject_verb("the # often _ ."), subject_verb("now the # _ near the {place} .")),
    ),
    "across_phrase": Phenomenon(
        "agreement",
        "the key near the boxes is old",
        (
            across_phrase("the # {near} the * _ {quality} ."),
            across_phrase("the {quality} # {near} the * _ in the {place} ."),
            across_phrase("now the # {near} the * _ {quality} ."),
        ),
        (
            across_phrase("the # from the * in the {place} _ {quality} ."),
            across_phrase("the # {near} the {quality} * _ in the {place} ."),
        ),
    ),
    "across_clause": Phenomenon(
        "agreement",
        "the dog that the cats saw sleeps",
        (
            across_clause("the # that the * {action} _ ."),
            across_clause("the # that the {adj} * {action} _ ."),
            across_clause("now the # that the * {action} _ ."),
        ),
        (across_clause("the # that {action} the * _ ."), across_clause("the # that {action} the {adj} * _ .")),
    ),
    "coordination": Phenomenon(
        "agreement",
        "the dog and the cat sleep, the dog near the cat sleeps",
        (
            coordination("the {one} and the {other} _ .", "the {one} {near} the {other} _ ."),
            coordination("the {adj} {one} and the {other} _ .", "the {adj} {one} {near} the {other} _ ."),
            coordination("the {one} and the {adj} {other} _ .", "the {one} {near} the {adj} {other} _ ."),
        ),
        (
            coordination("{name} and the {other} _ .", "the {one} with {name} _ ."),
            coordination("the {one} and {name} _ .", "the {one} {near} {name} _ ."),
        ),
    ),
    "reflexive_number": Phenomenon(
        "binding",
        "the boy hid himself, the boys hid themselves",
        (
            reflexive_number("the # {action} _ ."),
            reflexive_number("yesterday the # {action} _ ."),
            reflexive_number("the {adj} # {action} _ ."),
        ),
        (reflexive_number("the # had {done} _ ."), reflexive_number("the # wanted to {base} _ .")),
    ),
    "reflexive_gender": Phenomenon(
        "binding",
        "the king helped himself, the queen helped herself",
        (
            reflexive_gender("the # {action} _ ."),
            reflexive_gender("yesterday the # {action} _ ."),
            reflexive_gender("the {adj} # {action} _ ."),
        ),
        (reflexive_gender("the # had {done} _ ."), reflexive_gender("the # wanted to {base} _ .")),
    ),
    "article": Phenomenon(
        "form",
        "a dog, an owl",
        (article("{name} {action} _ # ."), article("_ # {verb} ."), article("{name} {verb} near _ # .")),
        (article("beside the {place} _ # {verb} ."), article("{name} and _ # {verb} .")),
    ),
    "pronoun_case": Phenomenon(
        "form",
        "he saw Anna, Anna saw him",
        (
            case("_ {action} {name} .", "{name} {action} _ ."),
            case("yesterday _ {action} {name} .", "yesterday {name} {action} _ ."),
            case("_ will {base} {name} .", "{name} will {base} _ ."),
        ),
        (
            case("{else_} said that _ {action} {name} .", "{else_} said that {name} {action} _ ."),
            case("_ often {action} {name} .", "{name} often {action} _ ."),
        ),
    ),
    "auxiliary": Phenomenon(
        "form",
        "has eaten, will eat",
        (
            participle("{who} has _ the {thing} .", "{who} will _ the {thing} ."),
            participle("{who} has _ one {thing} .", "{who} will _ one {thing} ."),
            participle("now {who} has _ the {thing} .", "now {who} will _ the {thing} ."),
        ),
        (
            participle("{who} has often _ the {thing} .", "{who} will often _ the {thing} ."),
            participle("{who} has _ two {things} .", "{who} will _ two {things} ."),
        ),
    ),
    "irregular_past": Phenomenon(
        "form",
        "broke it, has broken it",
        (
            past("{who} _ the {thing} .", "{who} has _ the {thing} ."),
            past("{who} _ one {thing} .", "{who} has _ one {thing} ."),
            past("then {who} _ the {thing} .", "now {who} has _ the {thing} ."),
        ),
        (
            past("yesterday {who} _ one {thing} .", "now {who} has _ one {thing} ."),
            past("{who} often _ the {thing} .", "{who} has often _ the {thing} ."),
        ),
    ),
    "tense": Phenomenon(
        "licensing",
        "yesterday the dog slept, tomorrow it will sleep",
        (
            tense("_ the {noun} {past} .", "_ the {noun} will {base} ."),
            tense("the {noun} {past} in the {place} _ .", "the {noun} will {base} in the {place} _ ."),
            tense("_ the {adj} {noun} {past} .", "_ the {adj} {noun} will {base} ."),
        ),
        (
            tense("_ the {noun} from the {place} {past} .", "_ the {noun} from the {place} will {base} ."),
            tense("the {noun} often {past} near the {place} _ .", "the {noun} will often {base} near the {place} _ ."),
        ),
    ),
    "polarity": Phenomenon(
        "licensing",
        "no dog has ever slept, some dog has already slept",
        (
            polarity("_ {noun} has ? {done} ."),
            polarity("_ {adj} {noun} has ? {done} ."),
            polarity("_ {noun} {near} the {other} has ? {done} ."),
        ),
        (
            polarity("_ {noun} that {action} the {other} has ? {done} ."),
            polarity("_ {noun} from the {place} has ? {done} ."),
        ),
    ),
    "there": Phenomenon(
        "licensing",
        "there is some dog, almost every dog slept",
        (
            there("there is _ {noun} in the {place} .", "{almost} _ {noun} {verb} ."),
            there("there is _ {adj} {noun} .", "{almost} _ {adj} {noun} {verb} ."),
            there("there is _ {noun} near the {place} .", "{almost} _ {noun} {verb} near the {place} ."),
        ),
        (
            there("there was _ {noun} .", "{almost} _ {noun} often {verb} ."),
            there("there was _ {adj} {noun} .", "{almost} _ {adj} {noun} from the {place} {verb} ."),
        ),
    ),
    "transitivity": Phenomenon(
        "structure",
        "the dog chased the cat, the dog slept",
        (
            transitivity("the {noun} _ the {object} .", "the {noun} _ ."),
            transitivity("the {adj} {noun} _ the {object} .", "the {adj} {noun} _ ."),
            transitivity("yesterday the {noun} _ the {object} .", "yesterday the {noun} _ ."),
        ),
        (
            transitivity("the {noun} from the {place} _ the {object} .", "the {noun} from the {place} _ ."),
            transitivity("the {noun} often _ the {object} .", "the {noun} often _ ."),
        ),
    ),
    "filler_gap": Phenomenon(
        "structure",
        "knows what the girl found, knows that the girl found the key",
        (
            filler("{name} {knows} _ the {noun} {verb} .", "{name} {knows} _ the {noun} {verb} the {thing} ."),
            filler(
                "{name} {knows} _ the {adj} {noun} {verb} .", "{name} {knows} _ the {adj} {noun} {verb} the {thing} ."
            ),
            filler(
                "the {other} {knows} _ the {noun} {verb} .", "the {other} {knows} _ the {noun} {verb} the {thing} ."
            ),
        ),
        (
            filler(
                "{name} {knows} _ the {noun} from the market {verb} .",
                "{name} {knows} _ the {noun} from the market {verb} the {thing} .",
            ),
            filler(
                "{name} {knows} _ the {noun} often {verb} .", "{name} {knows} _ the {noun} often {verb} the {thing} ."
            ),
        ),
    ),
    "inversion": Phenomenon(
        "structure",
        "is the boy that has slept tired?",
        (
            inversion("_ the {noun} that has {done} $ ?"),
            inversion("_ the {noun} that is {adj} $ ?"),
            inversion("_ the {adj} {noun} that has {done} $ ?"),
        ),
        (
            inversion("_ the {noun} that has {seen} the {other} $ ?"),
            inversion("_ the {noun} that is {near} the {other} $ ?"),
        ),
    ),
}
"""By name. Families are compared between models; a comparison needs several templates in each."""
