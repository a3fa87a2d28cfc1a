from __future__ import annotations

import subprocess
import sys

import pytest

from deep_delta.data.synthetic.task import Lengths
from deep_delta.data.synthetic.tasks import TASKS, is_task, parse_task
from deep_delta.errors import ConfigError


def test_the_defaults_are_the_literature_s_for_parity():
    task = parse_task("synth:parity")
    assert (task.train, task.test) == (Lengths(3, 40), Lengths(40, 256))
    assert task.spec == "synth:parity:train=3-40,test=40-256"


def test_options_are_taken():
    task = parse_task("synth:recall:keys=128,pairs=4-16,test=20,values=10")
    assert (task.train, task.test) == (Lengths(4, 16), Lengths(20, 20))
    assert len(task.rule.symbols) == 138
    assert task.num_tokens(20) == 60


@pytest.mark.parametrize(
    ("spec", "train", "test"),
    [
        ("synth:parity:train=3-10", (3, 10), (10, 256)),
        ("synth:parity:train=500", (500, 500), (500, 500)),
        ("synth:recall:keys=8", (8, 8), (8, 8)),
        ("synth:recall:pairs=4,keys=32", (4, 4), (4, 32)),
    ],
)
def test_what_is_left_out_fits_what_is_given(spec: str, train: tuple[int, int], test: tuple[int, int]):
    task = parse_task(spec)
    assert (task.train, task.test) == (Lengths(*train), Lengths(*test))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("synth:", "there are synth:parity, synth:modular-arithmetic,"),
        ("synth:Parity", "unknown task 'synth:Parity'; there are synth:parity"),
        ("Synth:parity", "unknown task 'Synth:parity'; there are synth:parity"),
        ("synth:partiy", "unknown task"),
        ("synth:parity ", "unknown task"),
        ("synth:parity:", None),
        ("synth:parity:pairs=3", "unknown option 'pairs=3'; there are train=…, test=…"),
        ("synth:recall:train=3", "unknown option 'train=3'; there are pairs=…, test=…, keys=…, values=…"),
        ("synth:parity:train", "unknown option 'train'"),
        ("synth:parity:train=3,", "unknown option ''"),
        ("synth:parity:train=3,train=4", "train is given twice"),
        ("synth:parity:train=0", "train must be a length or a range of lengths, at least 1, as 40 or 3-40, got '0'"),
        ("synth:parity:test=0-5", "test must be a length"),
        ("synth:parity:train=9-3", "got '9-3'"),
        ("synth:parity:train=-3", "got '-3'"),
        ("synth:parity:train=3-", "got '3-'"),
        ("synth:parity:train=3-4-5", "got '3-4-5'"),
        ("synth:parity:train=1e3", "got '1e3'"),
        ("synth:parity:train=٣", "train must be a length"),
        ("synth:parity:test=99999999999999999999", "test must be a length"),
        ("synth:parity:test=70000", "test 70000 is more than the 65,536 tokens that there can be"),
        ("synth:recall:pairs=65", "pairs 65 is more than the 64 pairs that there can be; give keys=65 or fewer pairs"),
        ("synth:recall:test=16-128", "test 16-128 is more than the 64 pairs that there can be; give keys=128"),
        ("synth:recall:keys=0", "keys must be a whole number from 1 to 32,768, got '0'"),
        ("synth:recall:values=1", "values must be a whole number from 2 to 32,768"),
        ("synth:recall:keys=40000", "keys must be a whole number"),
        ("synth:copying:symbols=27", "symbols must be a whole number from 2 to 26, got '27'"),
        ("synth:copying:symbols=x", "got 'x'"),
    ],
)
def test_a_bad_spec_is_one_line_that_lists_what_there_is(spec: str, says: str | None):
    assert is_task(spec)
    if says is None:
        assert parse_task(spec).spec == parse_task("synth:parity").spec
        return
    with pytest.raises(ConfigError) as caught:
        parse_task(spec)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_spec_is_cut_in_its_error():
    with pytest.raises(ConfigError) as caught:
        parse_task("synth:" + "x" * 5000)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("spec", [None, "", "synth", "book.txt", "hf:synth:parity", "synthetic:parity"])
def test_texts_are_no_tasks(spec: str | None):
    assert not is_task(spec)


@pytest.mark.parametrize("name", TASKS)
def test_the_arithmetic_of_chance_and_symbols(name: str):
    task = parse_task(f"synth:{name}")
    assert 0 < task.rule.chance <= 0.5
    assert len(set(task.rule.symbols)) == len(task.rule.symbols)
    assert not any(set(" \t\n") & set(symbol) for symbol in task.rule.symbols)
    assert task.test.last > task.train.last


def test_no_torch_is_imported():
    code = "import sys, deep_delta.data.opening as it; it.open_data('synth:s5'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
