"""Templates of minimal pairs, and the makers of them.

A template gives a `Group` of two pairs in which the same two critical words change places: the one that is right in the
first pair is wrong in the second. So no preference for a word is worth anything, and neither is its frequency.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from deep_delta.data.language.draw import Draw
from deep_delta.data.language.lexicon import (
    ANIMALS,
    INTRANSITIVE,
    MEN,
    NAMES,
    PEOPLE,
    STATING,
    THINGS,
    TIMES,
    TRANSITIVE,
    WOMEN,
)


class Pair(NamedTuple):
    """Two sentences that differ in the critical word."""

    good: str
    bad: str


class Group(NamedTuple):
    """Two pairs with the critical words crossed."""

    first: Pair
    second: Pair

    def set_in(self, opening: str, end: str) -> Group:
        """The same with words before each sentence, where they may stand before it, and before its last sign."""
        if self.first.good.endswith("?") and opening.strip() in STATING:
            opening = ""
        return Group(*(Pair(*(f"{opening}{one[:-2]}{end}{one[-2:]}" for one in pair)) for pair in self))


Template = Callable[[Draw], Group]


def crossed(first: str, second: str, one: str, other: str) -> Group:
    """Two frames with a blank: `one` is right in the first, `other` in the second."""
    return Group(
        Pair(first.replace("_", one), first.replace("_", other)),
        Pair(second.replace("_", other), second.replace("_", one)),
    )


def determiner(frame: str) -> Template:
    def make(draw: Draw) -> Group:
        noun, (one, many) = draw.animate(), draw.of((("this", "these"), ("that", "those")))
        text = frame.format(name=draw.name(), action=draw.action().past, verb=draw.verb().past, adj=draw.adjective())
        return crossed(text.replace("#", noun.one), text.replace("#", noun.many), one, many)

    return make


def article(frame: str) -> Template:
    def make(draw: Draw) -> Group:
        pool = [word for kind in (ANIMALS, PEOPLE, THINGS) for word in (kind.held if draw.held else kind.seen)]
        a, an = (draw.of([word for word in pool if word.article == article]) for article in ("a", "an"))
        text = frame.format(name=draw.name(), place=draw.place(), verb=draw.verb().past, action=draw.action().past)
        return crossed(text.replace("#", a.one), text.replace("#", an.one), "a", "an")

    return make


def subject_verb(frame: str) -> Template:
    def make(draw: Draw) -> Group:
        noun, verb = draw.animate(), draw.verb()
        text = frame.format(adj=draw.adjective(), place=draw.place())
        one, many = ("is", "are") if "_ing" in frame else (verb.third, verb.base)
        text = text.replace("_ing", f"_ {draw.adjective()}")
        return crossed(text.replace("#", noun.one), text.replace("#", noun.many), one, many)

    return make


def reflexive_number(frame: str) -> Template:
    def make(draw: Draw) -> Group:
        pool, own = draw.of(((MEN, "himself"), (WOMEN, "herself")))
        noun, text = draw.asked(pool), _acted(draw, frame)
        return crossed(text.replace("#", noun.one), text.replace("#", noun.many), own, "themselves")

    return make


def _acted(draw: Draw, frame: str) -> str:
    action = draw.action()
    return frame.format(action=action.past, done=action.participle, base=action.base, adj=draw.adjective())


def reflexive_gender(frame: str) -> Template:
    def make(draw: Draw) -> Group:
        man, woman = draw.man(), draw.woman()
        text = _acted(draw, frame)
        return crossed(text.replace("#", man.one), text.replace("#", woman.one), "himself", "herself")

    return make


def case(subject: str, other: str) -> Template:
    def make(draw: Draw) -> Group:
        action = draw.asked(TRANSITIVE)
        words = {"action": action.past, "base": action.base, "name": draw.asked(NAMES), "else_": draw.name()}
        one, two = draw.of((("he", "him"), ("she", "her"), ("they", "them"), ("we", "us")))
        return crossed(subject.format(**words), other.format(**words), one, two)

    return make


def participle(first: str, second: str) -> Template:
    def make(draw: Draw) -> Group:
        verb, words = draw.irregular(), {"who": draw.subject(), **_things(draw)}
        return crossed(first.format(**words), second.format(**words), verb.participle, verb.base)

    return make


def _things(draw: Draw) -> dict[str, str]:
    thing = draw.thing()
    return {"thing": thing.one, "things": thing.many}


def past(first: str, second: str) -> Template:
    def make(draw: Draw) -> Group:
        verb, words = draw.irregular(), {"who": draw.subject(), **_things(draw)}
        return crossed(first.format(**words), second.format(**words), verb.past, verb.participle)

    return make


def across_phrase(frame: str) -> Template:
    """One noun, the same in both pairs and of either number, stands between the subject and its verb."""

    def make(draw: Draw) -> Group:
        thing, between = draw.asked(THINGS), draw.of(draw.thing())
        text = frame.format(near=draw.near(), place=draw.place(), quality=draw.quality()).replace("*", between)
        return crossed(text.replace("#", thing.one), text.replace("#", thing.many), "is", "are")

    return make


def across_clause(frame: str) -> Template:
    def make(draw: Draw) -> Group:
        noun, between, verb = draw.animate(), draw.of(draw.other()), draw.verb()
        text = frame.format(action=draw.action().past, adj=draw.adjective()).replace("*", between)
        return crossed(text.replace("#", noun.one), text.replace("#", noun.many), verb.third, verb.base)

    return make


def coordination(first: str, second: str) -> Template:
    def make(draw: Draw) -> Group:
        verb = draw.verb()
        words = {"one": draw.animate().one, "other": draw.animate().one, "near": draw.near(), "name": draw.name()}
        words |= {"adj": draw.adjective()}
        return crossed(first.format(**words), second.format(**words), verb.base, verb.third)

    return make


def tense(past: str, future: str) -> Template:
    def make(draw: Draw) -> Group:
        noun, verb = draw.animate(), draw.verb()
        words = {"noun": noun.one, "past": verb.past, "base": verb.base, "place": draw.place()}
        words |= {"adj": draw.adjective()}
        before, after = draw.of((("yesterday", "tomorrow"), ("last", "next")))
        when = "_" if before == "yesterday" else f"_ {draw.of(TIMES)}"
        first, second = (frame.format(**words).replace("_", when) for frame in (past, future))
        return crossed(first, second, before, after)

    return make


def transitivity(with_object: str, without: str) -> Template:
    def make(draw: Draw) -> Group:
        words = {"noun": draw.other().one, "object": draw.other().one, "place": draw.place()}
        words |= {"adj": draw.adjective()}
        action, verb = draw.asked(TRANSITIVE), draw.asked(INTRANSITIVE)
        return crossed(with_object.format(**words), without.format(**words), action.past, verb.past)

    return make


def polarity(frame: str) -> Template:
    def make(draw: Draw) -> Group:
        noun, verb = draw.animate(), draw.verb()
        words = {"noun": noun.one, "done": verb.participle, "action": draw.action().past, "other": draw.other().one}
        text = frame.format(**words, adj=draw.adjective(), near=draw.near(), place=draw.place())
        return crossed(text.replace("?", "ever"), text.replace("?", "already"), "no", "some")

    return make


def there(there: str, almost: str) -> Template:
    def make(draw: Draw) -> Group:
        noun, words = draw.animate(), {"place": draw.place(), "verb": draw.verb().past, "adj": draw.adjective()}
        words |= {"almost": draw.of(("almost", "nearly")), "noun": noun.one}
        return crossed(there.format(**words), almost.format(**words), draw.of(("some", "one")), "every")

    return make


def filler(gap: str, filled: str) -> Template:
    def make(draw: Draw) -> Group:
        words = {"name": draw.name(), "noun": draw.animate().one, "verb": draw.action().past, "thing": draw.thing().one}
        words |= {"knows": draw.of(("knows", "remembers", "forgets")), "other": draw.other().one}
        words |= {"adj": draw.adjective()}
        return crossed(gap.format(**words), filled.format(**words), "what", "that")

    return make


def inversion(frame: str) -> Template:
    """The last word, an adjective or a participle, tells the first; the auxiliary between belongs to another clause."""

    def make(draw: Draw) -> Group:
        words = {"noun": draw.animate().one, "adj": draw.adjective(), "done": draw.verb().participle}
        words |= {"seen": draw.action().participle, "other": draw.other().one, "near": draw.near()}
        text, quality, done = frame.format(**words), draw.adjective(), draw.verb().participle
        return crossed(text.replace("$", quality), text.replace("$", done), "is", "has")

    return make
