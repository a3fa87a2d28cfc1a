import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.cli.options import Parser
from deep_delta.cli.settings import RECORDS
from deep_delta.errors import ConfigError


def parse(*arguments):
    parser = Parser("train [options]", "Train.", "  ddl train")
    parser.add_device()
    parser.add_configs()
    return parser.parse(arguments)


def tables(*arguments):
    return parse(*arguments).settings.tables


def test_only_what_was_given_is_kept():
    assert tables() == {"model": {}, "train": {}}
    assert tables("--model.d-model", "64") == {"model": {"d_model": 64}, "train": {}}


def test_every_field_of_every_record_has_an_option(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    for table, record in RECORDS.items():
        for name, field in record.model_fields.items():
            assert f"--{table}.{name.replace('_', '-')} " in shown
            assert field.description, f"{table}.{name} has no help"


@pytest.mark.parametrize(
    ("arguments", "table", "name", "value"),
    [
        (["--train.learning-rate", "3e-4"], "train", "learning_rate", 3e-4),
        (["--train.learning-rate=1"], "train", "learning_rate", 1.0),
        (["--train.compile"], "train", "compile", True),
        (["--train.compile", "false"], "train", "compile", False),
        (["--model.value-scale", "4"], "model", "value_scale", 4.0),
        (["--model.value-scale", "none"], "model", "value_scale", None),
        (["--model.residual", "write_only"], "model", "residual", "write_only"),
        (["--train.max-steps", "1", "--train.max-steps", "2"], "train", "max_steps", 2),
    ],
    ids=str,
)
def test_values_are_read_as_their_fields_type(arguments, table, name, value):
    found = tables(*arguments)[table]
    assert found == {name: value}
    assert type(found[name]) is type(value)


def test_files_are_expanded_in_their_place(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[model]\nd_model = 48\nnum_heads = 2")
    before = tables("--model.d-model", "96", "--config", str(file), "--model.num-heads", "6")
    assert before["model"] == {"d_model": 48, "num_heads": 6}
    assert tables("--size", "small", "--size", str(file))["model"] == {"d_model": 48, "num_layers": 6, "num_heads": 2}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--max-steps", "3"], r"unknown option '--max-steps' \(did you mean '--train.max-steps'\?\); see `ddl train"),
        (["--max-steps=3"], r"unknown option '--max-steps' "),
        (["--train.max", "3"], "unknown option '--train.max'"),
        (["stray"], "unknown argument 'stray'"),
        (["--train.max-steps"], "--train.max-steps: expected one argument"),
        (["--train.max-steps", "1e3"], "--train.max-steps: expected a whole number, got '1e3'"),
        (["--train.max-steps", "9" * 5000], "--train.max-steps: expected a whole number"),
        (["--train.learning-rate", "fast"], "--train.learning-rate: expected a number, got 'fast'"),
        (["--train.compile", "maybe"], "--train.compile: expected true or false, got 'maybe'"),
        (["--model.mapping", "x"], "--model.mapping: expected one of k_map, v_map, got 'x'"),
        (["--size", "smal"], "unknown size 'smal'"),
    ],
    ids=str,
)
def test_a_bad_command_line_is_one_line(arguments, says):
    with pytest.raises(ConfigError, match=says) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(max_size=12), max_size=4))
def test_no_command_line_does_more_than_parse_or_refuse(arguments):
    with contextlib.suppress(ConfigError, SystemExit):
        parse(*arguments)
