from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from deep_delta.errors import CheckpointError, ConfigError, DataError
from deep_delta.runs.record import Record, strict_json


class Inner(Record):
    items: tuple[int, ...] = ()


class Outer(Record):
    count: int = Field(1, ge=0)
    rate: float = 0.5
    name: str = "x"
    inner: Inner = Inner()


def read(text: str | bytes) -> Outer:
    return Outer.from_json(text, error=CheckpointError, where="file.json")


def test_what_was_written_is_read_back_equal() -> None:
    record = Outer(count=3, rate=0.1, name="é\n", inner=Inner(items=(1, 2)))
    assert read(record.to_json()) == record
    assert record.to_json().endswith("\n")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_keeps_all_its_bits(number: float) -> None:
    assert read(Outer(rate=number).to_json()).rate.hex() == number.hex()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"count": True}, "Outer: count: input should be a valid integer, got True"),
        ({"count": "1"}, "Outer: count: input should be a valid integer, got '1'"),
        ({"count": -1}, "Outer: count: input should be greater than or equal to 0, got -1"),
        ({"rate": math.nan}, "Outer: rate: input should be a finite number, got nan"),
        ({"rate": math.inf}, "Outer: rate: input should be a finite number, got inf"),
        ({"speed": 1}, "Outer: unknown field 'speed'"),
        ({"name": 5 * "long enough "}, None),
        ({"inner": {"items": [1]}}, "Outer: inner.items: input should be a valid tuple, got [1]"),
    ],
)
def test_constructing_is_strict_and_says_why_in_one_line(fields: dict, problem: str | None) -> None:
    if problem is None:
        assert Outer(**fields).name == fields["name"]
        return
    with pytest.raises(ConfigError) as caught:
        Outer(**fields)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"count": true}', "count: input should be a valid integer, got True"),
        ('{"inner": {"items": [1, true]}}', "inner.items.1: input should be a valid integer, got True"),
        ('{"rate": NaN}', "NaN is not a number that may stand here"),
        ('{"rate": 1e400}', "1e400 is beyond the range of a float"),
        ('{"count": 1, "count": 1}', "duplicate key 'count'"),
        ('{"a\\nb": 1}', r"unknown field 'a\nb'"),
        ("[" * 100_000, "too deeply nested"),
        ('{"inner": {"items": 1, "x": 2}}', "inner.items: input should be a valid array, got 1"),
    ],
    ids=lambda text: text[:30],
)
def test_reading_is_stricter_than_json(text: str, problem: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(text)
    assert str(caught.value) == f"file.json: {problem}"
    with pytest.raises(DataError):
        Outer.from_json(text, error=DataError, where="file.json")


def test_bytes_that_are_not_text_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"file\.json"):
        read(b'{"name": "\xff"}')


def test_it_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer().count = 2


def test_strict_json_reads_ordinary_values() -> None:
    assert strict_json('{"a": [1, 2.5, null, true, "x"]}') == {"a": [1, 2.5, None, True, "x"]}


def test_a_changed_copy_is_as_valid_as_any_other_record() -> None:
    record = Outer(count=3, inner=Inner(items=(1,)))
    changed = record.model_copy(update={"rate": 2})
    assert (changed, type(changed.rate)) == (Outer(count=3, rate=2.0, inner=Inner(items=(1,))), float)
    assert changed.inner is record.inner
    assert changed.model_fields_set == {"count", "inner", "rate"}
    assert record.model_copy() == record
    assert record.model_copy(update={}) == record
    deep = record.model_copy(update={"rate": 2.0}, deep=True)
    assert deep == changed
    assert deep.inner is not record.inner


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        ({"count": -1}, "Outer: count: input should be greater than or equal to 0, got -1"),
        ({"count": True}, "Outer: count: input should be a valid integer, got True"),
        ({"rate": math.nan}, "Outer: rate: input should be a finite number, got nan"),
        ({"speed": 1}, "Outer: unknown field 'speed'"),
        ({"inner": {"items": [1]}}, "Outer: inner.items: input should be a valid tuple, got [1]"),
    ],
    ids=str,
)
def test_a_copy_with_what_a_record_may_not_hold_is_refused(update: dict, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer(count=3).model_copy(update=update)
    assert str(caught.value) == problem
