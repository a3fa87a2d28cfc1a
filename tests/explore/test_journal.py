"""A log is read once, as it grows, whatever is in it."""

from __future__ import annotations

import os

import pytest

from deep_delta.explore.journal import Journal
from tests.explore.conftest import append, step, write


def read(journal):
    events = []
    while True:
        anew, found = journal.poll()
        events = found if anew else events + found
        if not found and not journal.behind:
            return events


def test_each_event_comes_once_as_the_log_grows(tmp_path):
    log = write(tmp_path / "events.jsonl", [step(1), step(2)])
    journal = Journal(log)
    assert [event["step"] for event in read(journal)] == [1, 2]
    assert read(journal) == []
    append(log, [step(3)])
    assert [event["step"] for event in read(journal)] == [3]


def test_a_line_counts_once_it_is_whole(tmp_path):
    log = write(tmp_path / "events.jsonl", [step(1), b'{"kind": "step", "st'])
    journal = Journal(log)
    assert len(read(journal)) == 1
    read(journal)
    assert journal.torn
    assert "its last line is cut off" in journal.notices()[0]
    append(log, [b'ep": 2}\n'])
    assert [event["step"] for event in read(journal)] == [2]
    assert not journal.torn
    assert journal.notices() == []


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\x00\xff\xfe\n",
        b"[1, 2]\n",
        b'{"step": 4}\n',
        b'{"kind": 3}\n',
        b"\n",
        b'{"kind": "step"},{"a":1}\n',
    ],
    ids=repr,
)
def test_what_is_no_event_is_passed_over_and_counted(tmp_path, line):
    journal = Journal(write(tmp_path / "events.jsonl", [step(1), line, step(2)]))
    assert [event["step"] for event in read(journal)] == [1, 2]
    assert journal.notices() == [f"{journal.path}: 1 line is no event and passed over (line 2)"]


def test_many_damaged_lines_are_one_notice(tmp_path):
    journal = Journal(write(tmp_path / "events.jsonl", [b"x\n"] * 5000))
    assert read(journal) == []
    assert journal.notices() == [f"{journal.path}: 5,000 lines are no event and passed over (line 1, 2, 3, …)"]


@pytest.mark.parametrize("how", ["shorter", "replaced", "changed"])
def test_a_log_that_was_rewritten_is_read_anew(tmp_path, how):
    log = write(tmp_path / "events.jsonl", [step(number) for number in range(1, 6)])
    journal = Journal(log)
    assert len(read(journal)) == 5
    if how == "replaced":
        write(tmp_path / "new", [step(1), step(2), *(step(number) for number in range(3, 20))]).replace(log)
    elif how == "shorter":
        write(log, [step(1)])
    else:
        write(log, [step(number, loss=2.0) for number in range(1, 6)])
    anew, events = journal.poll()
    assert anew
    assert events[0]["step"] == 1
    assert len(events) == {"replaced": 19, "shorter": 1, "changed": 5}[how]


def test_a_log_that_goes_away_and_comes_back(tmp_path):
    log = write(tmp_path / "events.jsonl", [step(1)])
    journal = Journal(log)
    read(journal)
    log.unlink()
    assert journal.poll() == (True, [])
    assert journal.poll() == (False, [])
    write(log, [step(7)])
    assert [event["step"] for event in read(journal)] == [7]


def test_only_plain_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "events.jsonl")
    journal = Journal(tmp_path / "events.jsonl")
    assert journal.poll() == (False, [])
    assert journal.notices() == [f"{journal.path} is not a plain file"]


def test_lines_longer_than_a_block_are_read_whole(tmp_path):
    long = step(1, note="x" * 3_000_000)
    journal = Journal(write(tmp_path / "events.jsonl", [long, step(2)]))
    assert [event["step"] for event in read(journal)] == [1, 2]


def test_a_file_of_zeros_ends(tmp_path):
    log = tmp_path / "events.jsonl"
    with log.open("wb") as file:
        file.truncate(1 << 25)
    journal = Journal(log)
    assert read(journal) == []
    assert journal.num_damaged > 0
