"""A task behind the interface of training data."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from deep_delta.data.batches import IGNORED
from deep_delta.data.opening import open_data
from deep_delta.data.synthetic.task_data import TaskData
from deep_delta.data.synthetic.tasks import TASKS, parse_task
from deep_delta.errors import ConfigError
from deep_delta.runs.manifest import DataIdentity


def data_of(spec: str) -> TaskData:
    return TaskData(parse_task(spec))


def same(one, other) -> bool:
    return all(left.shape == right.shape and (left == right).all() for left, right in zip(one, other, strict=True))


def test_a_batch_is_a_function_of_seed_and_index():
    data = data_of("synth:parity")
    one, again, other = (data.training_batches(batch_size=4, seq_len=40, seed=seed) for seed in (7, 7, 8))
    late = [again.batch(index) for index in reversed(range(20))][::-1]
    assert all(same(one.batch(index), late[index]) for index in range(20))
    assert not any(same(one.batch(index), other.batch(index)) for index in range(20))
    assert len({one.batch(index)[0].tobytes() for index in range(20)}) == 20


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_do_not_change_the_batches(workers: int):
    batches = data_of("synth:copying").training_batches(batch_size=3, seq_len=64, seed=1)
    with closing(batches.prefetch(5, workers)) as ahead:
        for index, batch in enumerate(islice(ahead, 12), 5):
            assert same(batch, batches.batch(index))


@pytest.mark.parametrize("name", TASKS)
def test_batches_have_at_most_seq_len_tokens_and_the_lengths_that_fit(name: str):
    data = data_of(f"synth:{name}")
    first, last = data.task.train.first, data.task.train.last
    for seq_len in (data.task.num_tokens(first), data.task.num_tokens((first + last) // 2), 10_000):
        batches = data.training_batches(batch_size=16, seq_len=seq_len, seed=0)
        widest = max(batches.batch(index)[0].shape[1] for index in range(20))
        fits = max(n for n in range(first, last + 1) if data.task.num_tokens(n) <= seq_len)
        assert data.training_lengths(seq_len).last == fits
        assert widest == data.task.num_tokens(fits) <= seq_len


def test_a_seq_len_that_nothing_fits_is_refused_with_the_remedy():
    for use in (
        lambda data: data.training_batches(batch_size=1, seq_len=47, seed=0),
        lambda data: data.held_out(batch_size=1, seq_len=47, seed=0, limit=1),
    ):
        with pytest.raises(ConfigError, match=r"seq_len 47 is shorter than the shortest .* 48 tokens; leave .* out"):
            use(data_of("synth:recall"))


def test_what_is_held_out_is_the_same_for_every_training_seed_and_never_trained_on():
    data = data_of("synth:parity:train=40,test=40-64")
    one, other = (data.held_out(batch_size=8, seq_len=40, seed=seed, limit=3) for seed in (0, 1))
    assert all(same(left, right) for left, right in zip(one.batches, other.batches, strict=True))
    assert (len(one.batches), list(one.by_length), one.lengths) == (3, [40, 64], "40")
    assert one.num_bytes is None
    assert one.probe.shape == (8, 40)
    seen = {row.tobytes() for index in range(50) for row in data.training_batches(
        batch_size=8, seq_len=40, seed=0).batch(index)[0]}  # fmt: skip
    held = {row.tobytes() for ids, _ in [*one.batches, *one.by_length[40]] for row in ids}
    assert len(held) == 48
    assert not seen & held


def test_batches_of_a_test_length_have_no_padding():
    held_out = data_of("synth:copying").held_out(batch_size=4, seq_len=64, seed=0, limit=2)
    for length, batches in held_out.by_length.items():
        assert len(batches) == 2
        for ids, targets in batches:
            assert ids.shape == (4, 2 * length)
            assert (targets != IGNORED).sum() == 4 * length
        with pytest.raises(IndexError):
            batches[2]


def test_the_context_is_that_of_the_longest_sequence():
    data = data_of("synth:copying:train=4-8,test=8-20")
    assert (data.context(16), data.context(100)) == (40, 100)


def test_the_identity_is_the_task_s_and_its_tokenizer_s():
    one, other = data_of("synth:recall"), data_of("synth:recall:pairs=8")
    assert isinstance(one.identity, DataIdentity)
    assert one.identity.name == "synth:recall:pairs=16,test=16-64,keys=64,values=64"
    assert one.identity.sha256 != other.identity.sha256
    assert one.identity.tokenizer_sha256 == other.identity.tokenizer_sha256
    assert one.identity == open_data("synth:recall").identity


def test_a_task_takes_no_tokenizer():
    with pytest.raises(ConfigError, match="leave --tokenizer out"):
        open_data("synth:parity", "byte")


def test_what_a_seed_draws_never_changes():
    """A resumed run of another version must see the same batches: change these only with the format of checkpoints."""
    ids, targets = data_of("synth:s5").training_batches(batch_size=2, seq_len=4, seed=3).batch(1000)
    assert np.concatenate([ids, targets]).tolist() == [
        [56, 111, 114, 28],
        [64, 7, 49, 113],
        [56, 33, 72, 55],
        [64, 46, 17, 103],
    ]
