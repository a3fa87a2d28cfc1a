"""The suite is fair: critical words are crossed, nothing asked is trained on, everything is the same each time."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise

import pytest

from deep_delta.data.corpus import open_corpus
from deep_delta.data.language import lexicon, pairs
from deep_delta.data.language.lexicon import Pool
from deep_delta.data.language.pairs import SPLITS, is_for_test
from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.data.language.text import SENTENCES_A_DOCUMENT, LanguageText, open_language, training_sentences
from deep_delta.data.synthetic.tasks import is_task
from deep_delta.errors import ConfigError, DataError

TRAINED = 20_000
minimal_pairs = cache(pairs.minimal_pairs)
POOLS = {name: value for name, value in vars(lexicon).items() if isinstance(value, Pool)}


@pytest.fixture(scope="module")
def trained():
    return list(training_sentences(TRAINED))


def forms(words):
    """Every form of some words of the lexicon."""
    return {form for word in words for form in ([word] if isinstance(word, str) else word)}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", PHENOMENA)
def test_pairs_are_crossed_minimal_and_never_repeat(name, split):
    items = minimal_pairs(name, split)
    assert len(items) == 1000
    assert len({sentence for item in items for sentence in item.pair}) == 4000 / 2
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for first, second in zip(items[::2], items[1::2], strict=True):
        assert first.group == second.group
        changes = []
        for item in (first, second):
            good, bad = (sentence.split() for sentence in item.pair)
            (place,) = [index for index, (one, other) in enumerate(zip(good, bad, strict=True)) if one != other]
            changes.append((good[place], bad[place]))
        assert changes[0] == changes[1][::-1], "what is right in one pair of a group is wrong in the other"
        right[changes[0][0]] += 1
        wrong[changes[0][1]] += 1
        right[changes[1][0]] += 1
        wrong[changes[1][1]] += 1
    assert right == wrong, "every critical word is right as often as wrong"


@pytest.mark.parametrize("name", PHENOMENA)
def test_held_out_templates_make_no_sentence_of_the_others(name):
    """No frame of a held-out template is one that is trained on, whatever words are in it."""
    shapes = {
        split: {_shape(item.pair.good) for item in minimal_pairs(name, split)} for split in ("seen", "new_templates")
    }
    assert not shapes["seen"] & shapes["new_templates"]


def _shape(sentence):
    """A sentence with the kinds of its words, without what stands around any sentence."""
    for end in filter(None, lexicon.ENDS):
        sentence = sentence.replace(f" {end} ", " ")
    kinds = {form: name for name, pool in POOLS.items() for form in forms(pool.seen)}
    kinds |= {word: kind for kind in ("ADJECTIVES", "QUALITIES", "PLACES") for word in getattr(lexicon, kind)}
    words = sentence.split()
    return tuple(kinds.get(word, word) for word in (words[1:] if words[0] in lexicon.OPENINGS else words))


@pytest.mark.parametrize("name", PHENOMENA)
def test_no_good_sentence_of_a_suite_is_in_the_training_text(name, trained):
    known = set(trained)
    for split in SPLITS:
        assert not known & {item.pair.good for item in minimal_pairs(name, split)}
    assert not any(map(is_for_test, trained))


@pytest.mark.parametrize("name", PHENOMENA)
def test_every_word_of_a_suite_is_in_the_training_text(name, trained):
    known = {word for sentence in trained for word in sentence.split()}
    asked = {word for split in SPLITS for item in minimal_pairs(name, split) for word in item.pair.good.split()}
    assert asked <= known


def test_new_words_are_held_out_ones_and_others_are_not():
    held = forms(word for pool in POOLS.values() for word in pool.held)
    assert not held & forms(word for pool in POOLS.values() for word in pool.seen)
    for name in PHENOMENA:
        for item in minimal_pairs(name, "new_words", 200):
            assert held & set(item.pair.good.split()), item.pair.good
        for split in ("seen", "new_templates"):
            for item in minimal_pairs(name, split)[:200]:
                assert not held & set(item.pair.good.split()), item.pair.good


def test_held_out_words_are_never_in_what_a_suite_asks(trained):
    nouns = forms(word for name in ("ANIMALS", "PEOPLE", "THINGS", "MEN", "WOMEN") for word in POOLS[name].held)
    telling = {
        "a", "an", "this", "these", "that", "those", "is", "are", "himself", "herself", "themselves", "ever", "already",
        "every", "some", "no", "tomorrow", "yesterday", "soon", "recently", "what",
    }  # fmt: skip
    for sentence in trained:
        words = sentence.split()
        if nouns & set(words):
            assert not telling & set(words), sentence
    verbs = forms(POOLS["TRANSITIVE"].held) | forms(POOLS["INTRANSITIVE"].held)
    for sentence in trained:
        words = sentence.split()
        for verb in verbs & set(words):
            assert words[words.index(verb) - 1] in ("to", "has"), sentence


def test_held_out_words_and_others_stand_in_the_same_frames(trained):
    """Else a model has no reason to treat them alike."""
    pairs_of_words = Counter(pair for sentence in trained for pair in pairwise(sentence.split()))
    for name in ("ANIMALS", "PEOPLE", "THINGS", "MEN", "WOMEN"):
        for before, form in (("one", 0), ("two", 1)):
            seen, held = (sum(pairs_of_words[before, noun[form]] for noun in nouns) for nouns in POOLS[name])
            assert 0 < held < 2 * seen, (name, before)
    for name, before in (("TRANSITIVE", "to"), ("INTRANSITIVE", "to"), ("IRREGULAR", "was")):
        form = 3 if before == "was" else 0
        seen, held = (sum(pairs_of_words[before, verb[form]] for verb in verbs) for verbs in POOLS[name])
        assert 0 < held < 2 * seen, name


def test_questions_do_not_open_with_what_states():
    for split in SPLITS:
        assert not any(item.pair.good.startswith(lexicon.STATING) for item in minimal_pairs("inversion", split))


def test_the_text_is_the_same_each_time_and_longer_texts_begin_alike():
    assert list(training_sentences(300)) == list(training_sentences(500))[:300]
    documents = [piece.text for piece in LanguageText(40).pieces()]
    assert [len(text.splitlines()) for text in documents] == [SENTENCES_A_DOCUMENT, SENTENCES_A_DOCUMENT, 8]
    assert all(piece.begins for piece in LanguageText(40).pieces())


def test_each_member_of_a_group_is_trained_on_alike(trained):
    words = Counter(word for sentence in trained for word in sentence.split())
    for one, other in (("this", "these"), ("himself", "herself"), ("a", "an")):
        assert 0.5 < words[one] / words[other] < 2, (one, other)


def test_it_is_a_corpus_and_no_task():
    corpus = open_corpus("synth:language:sentences=2000")
    assert corpus.name == "synth:language:sentences=2000"
    assert corpus.num_bytes("validation") > 0
    assert corpus.sha256 == open_corpus("synth:language:sentences=2000").sha256
    assert not is_task("synth:language")
    assert is_task("synth:parity")


@pytest.mark.parametrize(
    "spec", ["synth:language:", "synth:language:words=3", "synth:language:sentences=0", "synth:language:sentences=x"]
)
def test_other_options_are_one_line(spec):
    if spec.endswith(":"):
        assert open_language(spec) == LanguageText()
        return
    with pytest.raises(ConfigError, match="synth:language"):
        open_language(spec)
    with pytest.raises((ConfigError, DataError)):
        open_corpus("synth:languages")


def test_an_unknown_phenomenon_is_one_line():
    with pytest.raises(ConfigError, match="unknown phenomenon"):
        minimal_pairs("nothing", "seen")
