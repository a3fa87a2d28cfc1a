"""The schemas describe what the commands really write."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from deep_delta.cli.schema import FILES, schema


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_event_and_file_of_a_run_fits_its_schema(trained):
    events = Draft202012Validator(schema("events"))
    found = lines(trained / "ddl-cc" / "events.jsonl")
    assert {"started", "step", "evaluation", "checkpoint", "finished"} == {event["kind"] for event in found}
    for event in found:
        events.validate(event)
    comparison = json.loads((trained / "training_comparison.json").read_text())
    Draft202012Validator(schema("training_comparison")).validate(comparison)
    manifest = json.loads(next(trained.glob("ddl-cc/checkpoints/step-*/manifest.json")).read_text())
    Draft202012Validator(schema("manifest")).validate(manifest)


def test_what_does_not_fit_is_refused(trained):
    events = Draft202012Validator(schema("events"))
    step = next(event for event in lines(trained / "baseline" / "events.jsonl") if event["kind"] == "step")
    assert not events.is_valid(step | {"kind": "invented"})
    assert not events.is_valid(step | {"loss": "3"})
    assert not events.is_valid(step | {"invented": 1})


@pytest.mark.parametrize("name", FILES)
def test_schemas_are_valid_and_describe_their_fields(ddl, name):
    code, out, _ = ddl("schema", name)
    assert code == 0
    found = json.loads(out)
    Draft202012Validator.check_schema(found)
    assert found["description"] == FILES[name][1]


def test_fields_come_with_their_docstrings():
    found = schema("training_comparison")
    assert found["$defs"]["TrainedVariant"]["properties"]["best_loss"]["description"] == (
        "lowest validation loss of all evaluations, nats per token"
    )
    assert found["properties"]["data_spec"]["description"].startswith("what `--data` said")


def test_the_list_and_an_unknown_name(ddl):
    code, out, _ = ddl("schema")
    assert code == 0
    assert all(name in out for name in FILES)
    code, _, err = ddl("schema", "evnts")
    assert code == 2
    assert "did you mean 'events'?" in err
