import pytest

from deep_delta.cli.suggest import did_you_mean

OPTIONS = ["--help", "--train.max-steps", "--train.learning-rate", "--model.d-model", "--temperature", "--size"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--max-steps", "--train.max-steps"),
        ("--train.max-step", "--train.max-steps"),
        ("--trin.max-steps", "--train.max-steps"),
        ("--learning_rate", "--train.learning-rate"),
        ("--d-modle", "--model.d-model"),
        ("--temp", "--temperature"),
        ("-size", "--size"),
    ],
)
def test_what_was_probably_meant(word, meant):
    assert did_you_mean(word, OPTIONS) == f" (did you mean {meant!r}?)"


@pytest.mark.parametrize("word", ["--lr", "--epochs", "--x", "-", ""])
def test_no_guess_is_better_than_a_wild_one(word):
    assert did_you_mean(word, OPTIONS) == ""
