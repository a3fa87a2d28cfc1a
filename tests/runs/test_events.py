from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from deep_delta.errors import CheckpointError, StorageError
from deep_delta.runs.events import EventLog
from tests.runs.faults import FaultyDisk, Killed


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "ddl" / "events.jsonl")


def test_events_are_read_as_they_were_appended(log: EventLog) -> None:
    assert log.read() == []
    log.append("step", step=1, loss=2.5, text="é\n\u2028x")
    log.append("evaluation", step=1, loss=None, reason="no validation split")
    assert log.read() == [
        {"kind": "step", "step": 1, "loss": 2.5, "text": "é\n\u2028x"},
        {"kind": "evaluation", "step": 1, "loss": None, "reason": "no validation split"},
    ]
    assert len(log.path.read_text().split("\n")) == 3


@pytest.mark.parametrize("torn", ["{", '{"kind": "step", "step": 2}', "\0" * 9000, '{"kind": "' + "x" * 9000])
def test_a_torn_last_line_was_never_written(torn: str, log: EventLog) -> None:
    log.append("step", step=1)
    with log.path.open("a") as file:
        file.write(torn)
    assert [event["step"] for event in log.read()] == [1]
    log.append("step", step=3)
    assert [event["step"] for event in log.read()] == [1, 3]


def test_a_log_of_one_torn_line_is_empty(log: EventLog) -> None:
    log.path.parent.mkdir()
    log.path.write_text("x" * 10000)
    assert log.read() == []
    log.append("step", step=1)
    assert len(log.read()) == 1


@pytest.mark.parametrize("mode", ["kill", "error"])
def test_a_failure_at_any_call_leaves_the_log_readable(mode: str, log: EventLog, disk: FaultyDisk) -> None:
    count, num_calls = 0, 1
    while count <= num_calls:
        log.path.unlink(missing_ok=True)
        log.append("step", step=1)
        before = log.path.read_bytes()
        with disk.failing(mode, at=count), suppress(Killed, StorageError):
            log.append("step", step=2)
        num_calls = len(disk.trace)
        failed = disk.trace[count][0] if count < num_calls else "none"
        if mode == "error" and failed in ("open", "ftruncate", "write", "fsync"):
            assert log.path.read_bytes() == before
        assert [event["step"] for event in log.read()] in ([1], [1, 2])
        log.append("step", step=3)
        assert [event["step"] for event in log.read()] in ([1, 3], [1, 2, 3])
        count += 1
    assert num_calls == 5


def test_truncating_drops_later_steps_and_what_follows_them(log: EventLog) -> None:
    log.append("started")
    for step in (1, 2, 3):
        log.append("step", step=step)
        log.append("note")
    whole = log.path.read_bytes()
    log.truncate_after(3)
    assert log.path.read_bytes() == whole
    log.truncate_after(1)
    assert [event.get("step") for event in log.read()] == [None, 1, None]
    assert whole.startswith(log.path.read_bytes())
    log.truncate_after(0)
    assert log.read() == [{"kind": "started"}]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "damaged"),
        ('{"kind": "a", "loss": NaN}', "NaN"),
        ('{"kind": "a", "loss": 1e400}', "1e400"),
        ('{"kind": "a", "kind": "b"}', "duplicate key 'kind'"),
        ("[" * 100_000, "too deeply nested"),
        ('{"step": 1}', "not an event"),
        ("[1]", "not an event"),
        ('{"kind": "a", "step": true}', "step must be a whole number"),
        ('{"kind": "a", "step": "1"}', "step must be a whole number"),
    ],
    ids=lambda text: text[:30],
)
def test_a_damaged_line_is_named_by_number(line: str, problem: str, log: EventLog) -> None:
    log.append("step", step=1)
    with log.path.open("a") as file:
        file.write(line + "\n")
    log.append("step", step=2)
    with pytest.raises(CheckpointError, match=rf"events\.jsonl line 2.*{problem}") as caught:
        log.read()
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text_are_named_too(log: EventLog) -> None:
    log.path.parent.mkdir()
    log.path.write_bytes(b'{"kind": "\xff"}\n')
    with pytest.raises(CheckpointError, match="line 1 is damaged"):
        log.read()


def test_a_number_that_is_not_finite_is_never_written(log: EventLog) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        log.append("step", loss=float("nan"))
    assert not log.path.exists()


def test_a_log_that_cannot_be_opened_is_a_storage_error_and_read_a_checkpoint_error(log: EventLog) -> None:
    log.path.mkdir(parents=True)
    with pytest.raises(StorageError, match="Is a directory"):
        log.append("step")
    with pytest.raises(CheckpointError, match="Is a directory"):
        log.read()


def test_every_line_is_plain_json(log: EventLog) -> None:
    log.append("step", step=1, nested={"a": [1, 2.5, None, True]})
    assert json.loads(log.path.read_text()) == {"kind": "step", "step": 1, "nested": {"a": [1, 2.5, None, True]}}
