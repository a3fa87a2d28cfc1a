from __future__ import annotations

import threading
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.data.batches import IGNORED
from deep_delta.data.loader import BEGINNING_EVERY, Loader, validation_batches
from deep_delta.errors import DataError

END = 1000  # no token of these texts


def _loader(num_tokens: int, *, batch_size: int = 3, seq_len: int = 4, seed: int = 0) -> Loader:
    return Loader(np.arange(num_tokens, dtype=np.uint32), batch_size=batch_size, seq_len=seq_len, seed=seed)


def _starts(loader: Loader, epoch: int) -> list[int]:
    """Where the windows of one epoch begin, through batches of one sequence."""
    assert loader.batch_size == 1
    first = epoch * loader.windows
    return [int(loader.batch(index)[0][0, 0]) for index in range(first, first + loader.windows)]


def _same(left, right) -> bool:
    return all((one == other).all() for one, other in zip(left, right, strict=True))


@given(num_tokens=st.integers(5, 200), seq_len=st.integers(1, 20), seed=st.integers(0, 2**63 - 1))
def test_targets_are_the_next_tokens(num_tokens, seq_len, seed):
    if num_tokens < seq_len + 1:
        return
    loader = _loader(num_tokens, seq_len=seq_len, seed=seed)
    for index in range(5):
        ids, targets = loader.batch(index)
        assert ids.shape == targets.shape == (3, seq_len)
        assert ids.dtype == targets.dtype == np.int64
        assert (targets == ids + 1).all()
        assert (np.diff(ids, axis=1) == 1).all()
        assert ids.min() >= 0
        assert targets.max() < num_tokens


@given(num_tokens=st.integers(2, 300), seq_len=st.integers(1, 30), seed=st.integers(0, 2**63 - 1))
def test_an_epoch_visits_each_of_its_windows_once(num_tokens, seq_len, seed):
    if num_tokens < seq_len + 1:
        return
    loader = _loader(num_tokens, batch_size=1, seq_len=seq_len, seed=seed)
    for epoch in range(3):
        starts = sorted(_starts(loader, epoch))
        assert len(starts) == loader.windows
        assert (np.diff(starts) == seq_len).all()
        assert 0 <= starts[0] <= starts[-1] <= num_tokens - 1 - seq_len


def test_every_token_is_seen_and_orders_and_phases_change():
    loader = _loader(50, batch_size=1, seq_len=8)
    orders = [tuple(_starts(loader, epoch)) for epoch in range(200)]
    assert len(set(orders)) > 150
    assert {min(order) for order in orders} == set(range(50 - 1 - loader.windows * 8 + 1))
    seen = {start + offset for order in orders for start in order for offset in range(8)}
    assert seen == set(range(49))


def test_a_batch_is_a_function_of_seed_and_index():
    loader, again, other = _loader(500, seed=7), _loader(500, seed=7), _loader(500, seed=8)
    late = [again.batch(index) for index in reversed(range(60))][::-1]
    for index in range(60):
        assert _same(loader.batch(index), late[index])
    assert not all(_same(loader.batch(index), other.batch(index)) for index in range(60))


def test_what_a_seed_draws_never_changes():
    """A resumed run of another version must see the same batches: change these only with the format of checkpoints."""
    loader = _loader(1000, batch_size=4, seq_len=16, seed=3)
    assert loader.batch(0)[0][:, 0].tolist() == [576, 176, 0, 944]
    assert loader.batch(1000)[0][:, 0].tolist() == [469, 709, 85, 885]


def test_an_end_of_text_is_no_target_of_the_validation():
    ((ids, targets),) = validation_batches(np.array([9, 1, 2, 9, 3, 4]), batch_size=2, seq_len=3, end_of_text=9)
    assert ids.tolist() == [[9, 1, 2], [9, 3, 4]]
    assert targets.tolist() == [[1, 2, IGNORED], [3, 4, IGNORED]]


def test_some_sequences_begin_where_documents_do_and_the_others_are_the_epochs():
    tokens, beginnings = np.arange(200), np.array([0, 50, 120, 196])
    sizes = {"batch_size": 1, "seq_len": 4, "seed": 3}
    loader, plain = Loader(tokens, beginnings=beginnings, **sizes), Loader(tokens, **sizes)
    starts = [int(loader.batch(index)[0][0, 0]) for index in range(64 * BEGINNING_EVERY)]
    extra = starts[::BEGINNING_EVERY]
    assert set(extra) == {0, 50, 120}  # the last one is too near the end
    del starts[::BEGINNING_EVERY]
    assert starts == [int(plain.batch(index)[0][0, 0]) for index in range(len(starts))]
    other = Loader(tokens, beginnings=beginnings, **{**sizes, "seed": 4})
    assert extra != [int(other.batch(index)[0][0, 0]) for index in range(0, 64 * BEGINNING_EVERY, BEGINNING_EVERY)]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 40])
def test_batches_of_any_size_cut_the_same_sequence(batch_size):
    expected = [_loader(100, batch_size=1).batch(index)[0][0, 0] for index in range(80)]
    loader = _loader(100, batch_size=batch_size)
    drawn = [start for index in range(80 // batch_size) for start in loader.batch(index)[0][:, 0]]
    assert drawn == expected[: len(drawn)]


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
@pytest.mark.parametrize("start", [0, 13])
def test_workers_do_not_change_the_batches(workers, start):
    loader = _loader(300)
    with closing(loader.prefetch(start, workers)) as batches:
        for index, batch in enumerate(islice(batches, 40), start):
            assert _same(batch, loader.batch(index))


def test_threads_end_with_the_iterator():
    with closing(_loader(300).prefetch(0, 4)) as batches:
        next(batches)
    for thread in threading.enumerate():
        if thread.name.startswith("batches"):
            thread.join(5)
            assert not thread.is_alive()


def test_what_goes_wrong_in_a_thread_is_raised(monkeypatch):
    loader = _loader(300)
    monkeypatch.setattr(loader, "_tokens", None)
    with pytest.raises(TypeError), closing(loader.prefetch(0, 2)) as batches:
        next(batches)


@pytest.mark.parametrize("num_tokens", [0, 1, 8])
def test_too_few_tokens_name_the_length_that_is_needed(num_tokens):
    with pytest.raises(DataError, match=rf"training text has {num_tokens} tokens and seq_len 8 needs 9"):
        _loader(num_tokens, seq_len=8)
    with pytest.raises(DataError, match=rf"validation text has {num_tokens} tokens and seq_len 8 needs 9"):
        validation_batches(np.arange(num_tokens), batch_size=1, seq_len=8, end_of_text=END)


def test_just_enough_tokens_are_one_window():
    assert _loader(9, batch_size=2, seq_len=8).batch(5)[0].tolist() == [list(range(8))] * 2
    ((ids, targets),) = validation_batches(np.arange(9), batch_size=4, seq_len=8, end_of_text=END)
    assert (ids.tolist(), targets.tolist()) == ([list(range(8))], [list(range(1, 9))])


@given(
    num_tokens=st.integers(2, 400),
    seq_len=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    limit=st.none() | st.integers(1, 9),
)
def test_validation_windows_do_not_overlap_and_are_spread(num_tokens, seq_len, batch_size, limit):
    if num_tokens < seq_len + 1:
        return
    tokens = np.arange(num_tokens)
    batches = validation_batches(tokens, batch_size=batch_size, seq_len=seq_len, limit=limit, end_of_text=END)
    pairs = list(batches)
    assert len(pairs) == len(batches)
    ids = np.concatenate([ids for ids, _ in pairs])
    available = -(-(num_tokens - 1) // seq_len)
    assert len(ids) == (available if limit is None else min(available, limit * batch_size))
    assert all(len(one) == batch_size for one, _ in pairs[:-1])
    targets = np.concatenate([targets for _, targets in pairs])
    scored = targets != IGNORED
    assert (targets[scored] == ids[scored] + 1).all()
    assert len(set(targets[scored].tolist())) == scored.sum()
    assert (scored | (ids >= num_tokens - 1)).all()
    if limit is None:
        assert sorted(targets[scored].tolist()) == list(range(1, num_tokens))
    assert sum(batches.num_bytes(tokens)) == targets[scored].sum()
    assert (batches.probe == ids[: len(batches.probe)]).all()
    assert (batches.probe < num_tokens).all()
    assert len(batches.probe) >= 1
    gaps = np.diff(ids[:, 0])
    assert gaps.size == 0 or gaps.max() - gaps.min() <= seq_len
    assert _same(pairs[-1], list(batches)[-1])
