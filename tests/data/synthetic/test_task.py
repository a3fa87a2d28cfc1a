from __future__ import annotations

import time

import numpy as np
import pytest

from deep_delta.data.batches import IGNORED
from deep_delta.data.synthetic.task import Lengths, Task
from deep_delta.data.synthetic.tasks import TASKS, parse_task


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return parse_task(f"synth:{request.param}")


@pytest.mark.parametrize(
    ("lengths", "marks"),
    [
        (Lengths(40, 256), [40, 64, 128, 256]),
        (Lengths(3, 40), [3, 4, 8, 16, 32, 40]),
        (Lengths(16, 16), [16]),
        (Lengths(1, 2), [1, 2]),
        (Lengths(16, 64), [16, 32, 64]),
        (Lengths(5, 7), [5, 7]),
    ],
    ids=str,
)
def test_marks_are_the_ends_and_the_powers_of_two_between(lengths: Lengths, marks: list[int]):
    assert list(lengths.marks()) == marks


def test_an_example_is_a_function_of_split_seed_number_and_lengths(task: Task):
    numbers = np.array([5, 0, 9, 3])
    ids, targets = task.examples("train", 7, numbers, task.train)
    for row, number in enumerate(numbers):
        (alone,), (asked,) = task.examples("train", 7, np.array([number]), task.train)
        assert (ids[row, : len(alone)] == alone).all()
        assert (targets[row, : len(asked)] == asked).all()
        assert (ids[row, len(alone) :] == task.tokenizer.vocab_size - 1).all()
        assert (targets[row, len(asked) :] == IGNORED).all()


def test_splits_and_seeds_have_examples_of_their_own(task: Task):
    lengths = Lengths(task.train.last, task.train.last)
    made = [
        task.examples(split, seed, np.arange(20), lengths)[0]
        for split, seed in (("train", 0), ("validation", 0), ("test", 0), ("train", 1), ("train", 2**62), ("test", 1))
    ]
    rows = {row.tobytes() for ids in made for row in ids}
    assert len(rows) == 20 * len(made)


def test_all_training_lengths_are_equally_likely(task: Task):
    ids, _ = task.examples("train", 0, np.arange(8000), task.train)
    tokens = (ids < task.tokenizer.vocab_size - 1).sum(axis=1)
    sizes = [task.num_tokens(length) for length in range(task.train.first, task.train.last + 1)]
    counts = np.array([(tokens == size).sum() for size in sizes])
    assert counts.sum() == 8000
    assert abs(counts / 8000 - 1 / len(sizes)).max() < 5 / np.sqrt(8000 * len(sizes))


def test_ids_are_symbols_and_something_is_asked_of_every_sequence(task: Task):
    ids, targets = task.examples("test", 0, np.arange(50), task.test)
    assert ids.dtype == targets.dtype == np.int64
    assert ids.shape == targets.shape
    symbols = len(task.rule.symbols)
    asked = targets != IGNORED
    assert asked.any(axis=1).all()
    assert ids.min() >= 0
    assert targets[asked].min() >= 0
    assert targets[asked].max() < symbols
    assert (ids[asked] < symbols).all()


def test_a_batch_takes_milliseconds(task: Task):
    last = min(256, task.test.last)
    lengths = Lengths(last, last)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        task.examples("train", 0, np.arange(64), lengths)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.05  # 1 to 5 ms, with room for a busy machine


def test_batches_are_the_examples_in_order(task: Task):
    lengths = Lengths(task.test.last, task.test.last)
    parts = list(task.batches("test", 3, 300, lengths))
    whole, targets = task.examples("test", 3, np.arange(300), lengths)
    assert (np.concatenate([ids for ids, _ in parts]) == whole).all()
    assert (np.concatenate([one for _, one in parts]) == targets).all()
    assert all(ids.size <= 1 << 14 for ids, _ in parts)


def test_what_a_task_is_decides_its_hash_and_its_name():
    specs = ["synth:parity", "synth:parity:train=3-41", "synth:parity:test=40-257", "synth:recall", "synth:s5"]
    assert len({parse_task(spec).sha256 for spec in specs}) == len(specs)
    same = {parse_task(spec).sha256 for spec in ("synth:parity", "synth:parity:test=40-256,train=3-40")}
    assert len(same) == 1
    assert parse_task(parse_task("synth:recall:pairs=4").spec).sha256 == parse_task("synth:recall:pairs=4").sha256


def test_the_tokenizer_writes_symbols_with_blanks(task: Task):
    tokenizer = task.tokenizer
    ids, _ = task.examples("train", 0, np.array([0]), task.train)
    text = tokenizer.decode(ids[0])
    assert text == "".join(f" {task.rule.symbols[index]}" for index in ids[0])
    assert tokenizer.encode(text) == ids[0].tolist()
    assert tokenizer.vocab_size == len(task.rule.symbols) + 2
    assert tokenizer.end_of_text == tokenizer.vocab_size - 2


def test_samples_stand_in_columns():
    ((symbols, answers), *_) = parse_task("synth:recall:pairs=2,keys=4,values=12").samples(30)
    words, asked = symbols.split(), answers.split()
    assert len(words) == len(asked) == 6
    assert asked[:4] == ["·"] * 4
    memory = dict(zip(words[0:4:2], words[1:4:2], strict=True))
    assert asked[4:] == [memory[key] for key in words[4:]]
    assert len(list(parse_task("synth:recall:pairs=2").samples(30))) == 5
    assert list(parse_task("synth:recall:pairs=2").samples(5)) == []
