"""The words: forms, and which of them are held out.

Held-out words are read in training in frames that tell what they are (how many, who, with or without an object) and
never in the constructions that a suite asks about. The other words stand in the same frames as often, so that what a
frame says of one word can be carried over to another.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar


class Noun(NamedTuple):
    """One and several."""

    one: str
    many: str

    @property
    def article(self) -> str:
        return "an" if self.one[0] in "aeiou" else "a"


class Verb(NamedTuple):
    """sing, sings, sang, sung."""

    base: str
    third: str
    past: str
    participle: str


Word = TypeVar("Word")


class Pool(NamedTuple, Generic[Word]):
    """Words of one kind. held: those that are held out."""

    seen: tuple[Word, ...]
    held: tuple[Word, ...]


def _nouns(text: str) -> tuple[Noun, ...]:
    """Words with regular plurals, or one/many."""
    return tuple(Noun(*word.split("/")) if "/" in word else Noun(word, _plural(word)) for word in text.split())


def _plural(word: str) -> str:
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def _verbs(text: str) -> tuple[Verb, ...]:
    """base/past/participle, or a base with regular forms."""
    found = []
    for word in text.split():
        base, _, rest = word.partition("/")
        past, _, participle = rest.partition("/")
        regular = base + ("d" if base.endswith("e") else "ed")
        third = base + ("es" if base.endswith(("s", "x", "ch", "sh", "o")) else "s")
        found.append(Verb(base, third, past or regular, participle or past or regular))
    return tuple(found)


ANIMALS = Pool(
    _nouns(
        "dog cat horse cow pig goat duck lion tiger bear rabbit monkey donkey turtle frog snake spider wolf/wolves "
        "owl ant elephant eel"
    ),
    _nouns("zebra parrot beetle hedgehog otter eagle ostrich iguana"),
)
PEOPLE = Pool(
    _nouns(
        "doctor teacher farmer driver singer baker sailor pilot lawyer student painter writer dancer neighbor artist "
        "actor editor uncle"
    ),
    _nouns("plumber banker miner tailor engineer architect author umpire"),
)
MEN = Pool(
    _nouns("boy king father brother son prince waiter monk wizard hero/heroes"),
    _nouns("duke nephew groom sheriff emperor knight"),
)
WOMEN = Pool(
    _nouns("girl queen mother sister daughter princess waitress nun witch heroine"),
    _nouns("duchess niece bride ballerina empress countess"),
)
"""Beside the men, one by one."""
THINGS = Pool(
    _nouns(
        "key book letter box table chair lamp picture wall wheel basket bottle hammer ladder apple orange egg onion "
        "umbrella engine oven arrow"
    ),
    _nouns("candle bucket ribbon mirror anchor acorn olive envelope"),
)
PLACES = ("garden", "house", "river", "market", "forest", "kitchen", "bridge", "station")
NAMES = Pool(("anna", "ben", "clara", "david", "emma", "frank", "grace", "henry"), ("ivan", "julia", "karl", "laura"))

INTRANSITIVE = Pool(
    _verbs(
        "sleep/slept laugh smile cough sneeze whisper hesitate swim/swam/swum sing/sang/sung run/ran/run wait "
        "sigh dance jump listen"
    ),
    _verbs("yawn shiver wander kneel/knelt"),
)
TRANSITIVE = Pool(
    _verbs("chase find/found touch catch/caught admire avoid praise blame invite rescue ignore thank amuse"),
    _verbs("greet punish accuse insult"),
)
"""None of them is English without an object, nor before an infinitive (saw it sleep)."""
IRREGULAR = Pool(
    _verbs(
        "break/broke/broken take/took/taken write/wrote/written eat/ate/eaten draw/drew/drawn steal/stole/stolen "
        "drive/drove/driven choose/chose/chosen see/saw/seen ring/rang/rung know/knew/known wear/wore/worn"
    ),
    _verbs("tear/tore/torn shake/shook/shaken throw/threw/thrown give/gave/given"),
)
"""Transitive, with a participle that is not the past, nor may be (has forgot)."""

ADJECTIVES = ("tall", "happy", "sleepy", "old", "young", "small", "quiet", "hungry", "clever", "angry")
"""No past participles: has it tired?"""
QUALITIES = ("old", "small", "heavy", "clean", "red", "blue", "cheap", "strange")
"""Of things."""
PREPOSITIONS = ("near", "behind", "beside")
OPENINGS = ("", "", "and", "but", "indeed", "well", "perhaps", "surely")
ENDS = ("", "", "at night", "at noon", "in winter", "in summer", "on monday", "on friday", "again", "at home")
"""Around any sentence; the same around both members of a pair."""
STATING = ("perhaps", "surely")
"""Openings that are not for questions."""
TIMES = ("week", "month", "year")
"""After last and next."""
