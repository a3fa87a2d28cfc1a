"""What an evaluation says: rows, baselines, intervals, comparisons; and chance where there is nothing to know."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.data.language.text import training_sentences
from deep_delta.data.tokenizer import byte_tokenizer, train_bpe
from deep_delta.errors import DataError
from deep_delta.evaluation.statistics import wilson
from deep_delta.evaluation.suites.language import Questions, asked, critical_words, language_rows
from deep_delta.evaluation.suites.ngrams import NGrams
from deep_delta.evaluation.suites.pairing import compare_answers
from deep_delta.evaluation.suites.run import evaluate_suites
from deep_delta.runs.comparison import Origin
from deep_delta.runs.suites import SuiteResults

ORIGIN = Origin(versions={}, commit=None, hardware={})
NAMES = ["determiner_noun", "across_clause"]


@pytest.fixture(scope="module")
def knowing():
    """Questions, and what five-word counts of the training text answer: right nearly always where words are near."""

    def ask(tokenizer, names=("determiner_noun",), count=400):
        questions = Questions.ask(list(names), count, [tokenizer])
        counts = NGrams(training_sentences(20_000))
        return questions, questions.answers(lambda sentences: counts.log_likelihoods(sentences, 5))

    return ask


def test_rows_go_from_phenomena_over_families_to_all(examinee):
    rows, found = language_rows([examinee()], NAMES, 20)
    assert [(row.family, row.phenomenon) for row in rows[::3]] == [
        ("agreement", "determiner_noun"), ("agreement", "across_clause"), ("agreement", "all"), ("all", "all"),
    ]  # fmt: skip
    assert [row.split for row in rows[:3]] == ["seen", "new_words", "new_templates"]
    pooled = rows[-3]
    parts = [row for row in rows if row.split == "seen" and row.phenomenon != "all"]
    assert pooled.count == sum(row.count for row in parts)
    assert pooled.count + pooled.skipped == 40
    assert pooled.score == pytest.approx(sum(row.score * row.count for row in parts) / pooled.count)
    assert (pooled.low, pooled.high) == wilson(pooled.score * pooled.count, pooled.count)
    assert [one.family for one in found] == ["agreement", "all"]
    assert len(found[1].answers["ddl-cc"]) == sum(row.count for row in rows[-3:])


def test_baselines_come_from_the_same_text_or_say_why_not(examinee, identity):
    (row, *_), _ = language_rows([examinee()], ["determiner_noun"], 40)
    assert row.unigram == 0.5
    assert row.bigram > 0.7
    assert row.majority == 0.5
    assert row.reason is None
    changed = identity.model_copy(update={"sha256": "0" * 64})
    (row, *_), _ = language_rows([examinee(data=changed)], ["determiner_noun"], 40)
    assert (row.unigram, row.bigram, row.fivegram) == (None, None, None)
    assert row.reason.endswith("has changed")
    gone = identity.model_copy(update={"name": "book.txt"})
    (row, *_), _ = language_rows([examinee(data=gone)], ["determiner_noun"], 40)
    assert row.reason.startswith("its training text is not here")


def test_shuffled_labels_are_at_chance(knowing, words):
    questions, answers = knowing(words)
    answers = answers[[item.split == "seen" for item in questions.items]]
    assert answers.mean() > 0.9
    rng = np.random.default_rng(0)
    covers = []
    for _ in range(200):
        shuffled = np.where(rng.integers(0, 2, len(answers)).astype(bool), 1 - answers, answers)
        low, high = wilson(float(shuffled.sum()), len(shuffled))
        covers.append(low < 0.5 < high)
    assert 0.9 < np.mean(covers) < 1, "a 95% interval"


def test_an_untrained_model_is_near_chance(examinee):
    rows, _ = language_rows([examinee()], ["subject_verb", "inversion"], 200)
    assert 0.35 < rows[-3].score < 0.65


def test_who_is_better_is_said_where_templates_agree(knowing, words):
    questions, answers = knowing(words, [name for name in PHENOMENA if PHENOMENA[name].family == "agreement"], 100)
    none = np.zeros_like(answers)
    (family, pooled) = compare_answers(asked(questions.items, {"a": answers, "b": none}), [("a", "b")])
    assert (family.family, pooled.family) == ("agreement", "all")
    assert family.resolved
    assert family.difference == pytest.approx(answers.mean())
    same = compare_answers(asked(questions.items, {"a": answers, "b": answers.copy()}), [("a", "b")])
    assert not any(one.resolved for one in same)
    assert all(one.p == 1 for one in same)


def test_several_models_are_compared_and_seeds_are_pooled(examinee):
    models = [
        examinee("a", 0), examinee("b", 1), examinee("c", 0, variant="baseline"), examinee("d", 1, variant="baseline"),
    ]  # fmt: skip
    results = evaluate_suites(models, ORIGIN, names=["binding"], pairs=20)
    assert {one.models for one in results.comparisons} == {("a", "c"), ("b", "d")}
    assert len(results.comparisons) == 2 * 2
    assert results.ranking is not None
    assert {one.variant for one in results.ranking.standings} == {"ddl-cc", "baseline"}
    assert all(len(one.values) == 2 for one in results.ranking.standings)
    assert SuiteResults.model_validate_json(results.to_json()) == results


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 0}, "ddl-cc is there twice with seed 0"),
        ({"step": 2}, "baseline is at step 1, and other at step 2"),
        ({"data": None}, "baseline and other were trained on different text or with different tokenizers"),
        ({"training": {"batch_size": 8}}, "baseline and other differ in batch_size"),
        ({"model": {"d_model": 32}}, "models of ddl-cc differ in d_model"),
    ],
    ids=str,
)
def test_what_are_no_seeds_is_not_ranked_over_seeds(change, says, examinee, identity):
    about = {"data": identity.model_copy(update={"sha256": "1" * 64})} if "data" in change else change
    recipe = {name: about.pop(name) for name in ("training", "model") if name in about}
    seed = about.pop("seed", 1)
    other = examinee("other", seed, **about)
    other = replace(other, trained=other.trained._replace(**recipe))
    models = [examinee("baseline", 0, variant="baseline"), examinee("ddl-cc", 0), other]
    results = evaluate_suites(models, ORIGIN, names=["tense"], pairs=4)
    assert results.ranking is None
    assert results.unranked == f"not ranked over seeds: {says}"


def test_pairs_of_unequal_token_count_are_counted_and_left_out(examinee):
    questions = Questions.ask(["reflexive_number", "reflexive_gender"], 20, [byte_tokenizer()])
    assert not any(item.phenomenon == "reflexive_number" for item in questions.items)
    assert questions.skipped["reflexive_number", "seen"] == 20
    long = Questions.ask(["reflexive_gender"], 20, [byte_tokenizer()], 40)
    assert 0 < sum(long.skipped.values()) < 60
    with pytest.raises(DataError, match="no pair has members of equal token count"):
        Questions.ask(["reflexive_number"], 20, [byte_tokenizer()])


def test_groups_stay_whole_where_one_of_their_pairs_is_left_out():
    """At the start of a line him is two tokens and he one; behind other words both are one."""
    sentences = ["anna blamed him .", "anna blamed he .", "perhaps he sang .", "he sang .", "he blamed anna ."] * 50
    tokenizer = train_bpe(iter(["\n".join(sentences)]), 320)
    questions = Questions.ask(["pronoun_case"], 400, [tokenizer])
    groups = Counter((item.split, item.group) for item in questions.items)
    assert questions.items
    assert set(groups.values()) == {2}
    right, wrong = (Counter(words) for words in zip(*map(critical_words, questions.items), strict=True))
    assert right == wrong
    assert len(questions.items) + sum(questions.skipped.values()) == 3 * 400


def test_known_and_held_out_words_in_one_template_are_one_cluster():
    questions = Questions.ask(["transitivity"], 60, [])
    none = np.zeros(len(questions.items))
    (family, _) = compare_answers(asked(questions.items, {"a": none + 1, "b": none}), [("a", "b")])
    assert family.clusters == 5
    assert family.p == 2 / 2**5
    assert not family.resolved, "five templates cannot tell"


def test_a_suite_that_fits_no_model_is_one_line(examinee):
    with pytest.raises(DataError, match="nothing to evaluate: the models were trained on text"):
        evaluate_suites([examinee()], ORIGIN, names=["logic"])
