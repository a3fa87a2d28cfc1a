import subprocess
import sys

import pytest

from deep_delta.cli.console import count, duration


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9999, "9,999"), (12345, "12.3k"), (1.5e6, "1.5M"), (2e9, "2.0G")]
)
def test_counts_are_short(number, text):
    assert count(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (18367, "5:06:07")])
def test_durations_are_clocks(seconds, text):
    assert duration(seconds) == text


def test_a_reader_that_leaves_ends_the_command_with_its_code():
    """As `ddl … | true` does: the exit code is the shell's for a closed pipe, and nothing is said."""
    program = "from deep_delta.cli.console import out; from deep_delta.cli import main, schema; "
    program += "schema.run = lambda rest: [out.print('x' * 70) for _ in range(10_000)]; "
    program += "raise SystemExit(main.main(['schema']))"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (141, b"")
