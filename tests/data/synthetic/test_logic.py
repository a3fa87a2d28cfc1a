"""The logic tasks against slow readers that know only the symbols, and what training and test may share."""

from __future__ import annotations

import numpy as np
import pytest

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.task import Lengths, _hashed
from deep_delta.data.synthetic.tasks import parse_task
from deep_delta.errors import ConfigError

SPECS = [
    "synth:recall-skewed:pairs=1-9,keys=12,values=5", "synth:overwrite:writes=1-20,keys=6,values=4,rewrites=4",
    "synth:overwrite:writes=5,keys=5,values=3,rewrites=1", "synth:multihop:train=1-9,keys=11,hops=1",
    "synth:multihop:train=2-9,keys=9,hops=3", "synth:chaining:train=1-14,atoms=9",
    "synth:chaining-labels:train=1-14,atoms=9",
    "synth:boolean:train=1-9,depth=5", "synth:order:train=1-9,elements=9", "synth:dyck:train=1-30,kinds=2,depth=3",
    "synth:dyck:train=20,kinds=7,depth=1", "synth:entities:train=1-12,things=4,boxes=3", "synth:zn:train=1-20,order=7",
]  # fmt: skip
STRUCTURED = [spec for spec in SPECS if not spec.startswith("synth:zn") and "depth=1" not in spec]


def sequences(spec, split="train", count=300, seed=0):
    """(symbols, answers), a list of each for every example; the answers are None where nothing is asked."""
    task = parse_task(spec)
    ids, targets = task.examples(split, seed, np.arange(count), task.train)
    names = (*task.rule.symbols, "end", "padding")
    for row, asked in zip(ids.tolist(), targets.tolist(), strict=True):
        symbols = [names[one] for one in row]
        answers = [None if one == IGNORED else names[one] for one in asked]
        end = symbols.index("padding") if "padding" in symbols else len(symbols)
        assert all(answer is None for answer in answers[end:])
        yield symbols[:end], answers[:end]


def read_memory(symbols):
    memory, answers, place = {}, [], 0
    while place < len(symbols):
        if place + 1 < len(symbols) and symbols[place + 1].startswith("v"):
            memory[symbols[place]] = symbols[place + 1]
            answers += [None, None]
            place += 2
        else:
            answers.append(memory[symbols[place]])
            place += 1
    return answers


def read_pointers(symbols, hops):
    count = len(symbols) // 3
    points = dict(zip(symbols[: 2 * count : 2], symbols[1 : 2 * count : 2], strict=True))
    answers = [None] * (2 * count)
    for key in symbols[2 * count :]:
        for _ in range(hops):
            key = points[key]
        answers.append(key)
    return answers


def read_rules(symbols):
    rules, known, place = [], set(), 0
    while symbols[place + 1] != "?":
        if symbols[place + 1] == "!":
            known.add(symbols[place])
            place += 2
        else:
            a, _and, b, _then, c = symbols[place : place + 5]
            assert (_and, _then) == ("&", ">")
            rules.append((a, b, c))
            place += 5
    for _ in rules:
        known |= {c for a, b, c in rules if a in known and b in known}
    return [None] * (place + 1) + ["yes" if symbols[place] in known else "no"]


def read_boolean(symbols):
    sign, *expression, equals = symbols
    assert (sign in "!+", equals) == (True, "=")

    def value(start):
        if expression[start] != "(":
            return expression[start] == "T", start + 1
        one, operator = value(start + 1)
        other, end = value(operator + 1)
        assert expression[end] == ")"
        return (one and other) if expression[operator] == "&" else (one or other), end + 1

    found, end = value(0)
    assert end == len(expression)
    return [None] * (len(symbols) - 1) + ["T" if found != (sign == "!") else "F"]


def read_order(symbols):
    count = (len(symbols) + 2) // 4
    told = list(zip(symbols[: 2 * count - 2 : 2], symbols[1 : 2 * count - 2 : 2], strict=True))
    after = dict(told)
    first = set(after) - set(after.values()) or {symbols[-1]}
    (element,) = first
    order = [element]
    while order[-1] in after:
        order.append(after[order[-1]])
    assert len(order) == count
    answers = [None] * (2 * count - 2)
    for one, other in zip(symbols[2 * count - 2 :: 2], symbols[2 * count - 1 :: 2], strict=True):
        answers += [None, "before" if order.index(one) <= order.index(other) else "after"]
    return answers


def read_brackets(symbols):
    closing = dict(zip("([{<abcd", ")]}>ABCD", strict=True))
    stack, answers = [], []
    for symbol in symbols:
        if symbol in closing:
            stack.append(closing[symbol])
        else:
            assert stack.pop() == symbol
        answers.append(stack[-1] if stack else ".")
    return answers


def read_boxes(symbols):
    where, answers, place = {}, [], 0
    while place < len(symbols):
        if symbols[place] in ("move", "pour"):
            what, box = symbols[place + 1 : place + 3]
            if symbols[place] == "move":
                where[what] = box
            else:
                assert what != box
                where = {thing: box if at == what else at for thing, at in where.items()}
            answers += [None] * 3
            place += 3
        else:
            answers.append(where[symbols[place]])
            place += 1
    return answers


def read_sums(symbols):
    return [str(total % 7) for total in np.cumsum([int(symbol) for symbol in symbols]).tolist()]


def reader(spec):
    name = spec.split(":")[1]
    if name == "multihop":
        hops = int(spec.rsplit("hops=", 1)[1])
        return lambda symbols: read_pointers(symbols, hops)
    return {
        "recall-skewed": read_memory, "overwrite": read_memory, "chaining": read_rules, "chaining-labels": read_rules,
        "boolean": read_boolean, "order": read_order, "dyck": read_brackets, "entities": read_boxes, "zn": read_sums,
    }[name]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_answer_is_the_one_that_a_slow_reader_finds(spec, split):
    for symbols, answers in sequences(spec, split):
        if spec.startswith("synth:order") and len(symbols) == 2:
            continue  # one element: nothing is told, and it is asked whether it comes before itself
        assert reader(spec)(symbols) == answers, " ".join(symbols)


@pytest.mark.parametrize("spec", SPECS)
def test_examples_are_functions_of_their_number(spec):
    task = parse_task(spec)
    together = task.examples("test", 3, np.arange(40), task.train)
    for number in (0, 7, 39):
        ids, targets = task.examples("test", 3, np.array([number]), task.train)
        width = ids.shape[1]
        assert (together[0][number, :width] == ids[0]).all()
        assert (together[1][number, :width] == targets[0]).all()
        assert (together[1][number, width:] == IGNORED).all()
    assert not np.array_equal(task.examples("test", 4, np.arange(40), task.train)[0], together[0])


@pytest.mark.parametrize("spec", STRUCTURED)
def test_no_structure_of_training_is_one_of_test(spec):
    task = parse_task(spec)
    long = Lengths(task.train.last, task.train.last)
    found = {}
    for split in ("train", "validation", "test"):
        skeletons = []
        for seed in range(2):
            original = type(task.rule).make
            given = []

            def spy(rule, words, lengths, given=given, original=original):
                given.append((words, lengths))
                return original(rule, words, lengths)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(task.rule), "make", spy)
                task.examples(split, seed, np.arange(400), long)
            words, lengths = given[-1]
            skeletons.append(task.rule.skeleton(words, lengths))
        hashes = _hashed(np.concatenate(skeletons))
        found[split] = set(hashes.tolist())
        assert len(found[split]) > 1
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]


@pytest.mark.parametrize("spec", STRUCTURED)
def test_equal_skeletons_have_equal_hashes_whatever_stands_behind(spec):
    rows = np.array([[1, 2, 3, -1], [1, 2, 3, -1], [1, 2, 4, -1]])
    hashes = _hashed(rows)
    assert hashes[0] == hashes[1] == _hashed(rows[:1, :3])[0]
    assert hashes[0] != hashes[2]


@pytest.mark.parametrize("name", ["chaining", "chaining-labels", "boolean", "order"])
def test_yes_and_no_are_right_as_often(name):
    task = parse_task(f"synth:{name}")
    _, targets = task.examples("train", 0, np.arange(4000), task.train)
    asked = targets[targets != IGNORED]
    assert abs(np.bincount(asked).max() / len(asked) - 0.5) < 0.03


@pytest.mark.parametrize("name", ["chaining", "chaining-labels"])
def test_the_number_of_rules_and_of_facts_tells_no_answer(name):
    task = parse_task(f"synth:{name}:train=4-12,atoms=12")
    counts = {}
    for symbols, answers in sequences(task.spec, count=3000):
        counts.setdefault(symbols.count(">"), []).append(answers[-1] == "yes")
        assert symbols.count("!") == 4
    for found in counts.values():
        assert abs(np.mean(found) - 0.5) < 0.12


def test_the_two_distributions_of_rules_differ_and_have_the_same_words():
    free, labelled = (parse_task(f"synth:{name}:train=12,atoms=12") for name in ("chaining", "chaining-labels"))
    assert free.tokenizer.sha256 == labelled.tokenizer.sha256

    def following(spec):
        shares = []
        for symbols, _ in sequences(spec, count=400):
            rules = [tuple(symbols[5 * i + j] for j in (0, 2, 4)) for i in range(12)]
            known = {symbols[60 + 2 * i] for i in range(4)}
            for _ in rules:
                known |= {c for a, b, c in rules if a in known and b in known}
            shares.append(len(known) / 12)
        return np.mean(shares)

    assert abs(following(free.spec) - following(labelled.spec)) > 0.01


def test_keys_are_written_as_often_as_is_asked():
    for symbols, _ in sequences("synth:overwrite:writes=20,keys=6,values=4,rewrites=4", count=50):
        written = symbols[:40:2]
        assert len(set(written)) == 5
        assert sorted(symbols[40:]) == sorted(set(written))


def test_the_last_pairs_are_asked_more_often():
    spec = "synth:recall-skewed:pairs=8,keys=8,values=4"
    ranks = []
    for symbols, _ in sequences(spec, count=600):
        keys = symbols[:16:2]
        ranks += [8 - keys.index(key) for key in symbols[16:]]
    counts = np.bincount(ranks, minlength=9)[1:] / len(ranks)
    expected = 1 / np.arange(1, 9) / (1 / np.arange(1, 9)).sum()
    assert np.allclose(counts, expected, atol=0.03)


def test_brackets_stay_within_their_depth():
    for symbols, _ in sequences("synth:dyck:train=60,kinds=2,depth=3", count=100):
        depth = np.cumsum([1 if symbol in "([" else -1 for symbol in symbols])
        assert depth.min() >= 0
        assert depth.max() == 3


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("synth:multihop:train=40", "more than the 32 pointers"),
        ("synth:multihop:hops=0", "hops must be a whole number from 1"),
        ("synth:boolean:train=40,depth=5", "more than the 32 leaves"),
        ("synth:overwrite:train=3", "there are writes=…, test=…, keys=…, values=…, rewrites=…"),
        ("synth:overwrite:writes=129", "more than the 128 writes"),
        ("synth:dyck:kinds=9", "kinds must be a whole number from 1 to 8"),
        ("synth:zn:order=1", "order must be a whole number from 2 to 97"),
        ("synth:entities:boxes=1", "boxes must be a whole number from 2"),
        ("synth:order:train=25", "more than the 24 elements"),
        ("synth:chaining:atoms=3", "atoms must be a whole number from 4"),
    ],
)
def test_knobs_out_of_range_are_one_line(spec, says):
    with pytest.raises(ConfigError) as raised:
        parse_task(spec)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
