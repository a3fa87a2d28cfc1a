import errno
import importlib
import os
import signal
import subprocess
import sys

import pytest

from deep_delta import __version__, errors
from deep_delta.cli.main import COMMANDS, HELP, main


@pytest.fixture
def failing(monkeypatch):
    """`main` with a `data` command that raises what it is given."""

    def run(error, *arguments):
        def fail(_):
            raise error

        monkeypatch.setattr(importlib.import_module("deep_delta.cli.data"), "run", fail)
        return main(["data", *arguments])

    return run


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]], ids=str)
def test_help_names_every_command(arguments, capsys):
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in COMMANDS)


def test_help_fits_a_screen():
    assert all(len(line) <= 90 for line in HELP.splitlines())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ddl {__version__}\n"


WITHOUT_MODEL = ("data", "import", "export", "schema", "report", "tui")
"""Commands that compute nothing on a device."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command, capsys):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: ddl {command} ")
    assert f"examples:\n  ddl {command}" in shown
    assert "--device" in shown or command in WITHOUT_MODEL
    assert max(len(line) for line in shown.split("options:")[0].splitlines()) <= 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "ddl: error: unknown command 'trian' (did you mean 'train'?); see `ddl --help`\n"),
        (["--fast"], "ddl: error: unknown option '--fast'; see `ddl --help`\n"),
        (["data", "--bogus"], "ddl: error: unknown option '--bogus'; see `ddl data --help`\n"),
    ],
    ids=str,
)
def test_bad_usage_is_one_line_and_exit_2(arguments, says, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err == says


ERRORS = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_of_ours_is_one_line_with_its_exit_code(error, failing, capsys):
    assert failing(error("what is\nwrong")) == error.exit_code
    assert capsys.readouterr().err == "ddl: error: what is wrong\n"


def test_the_exit_codes_are_the_documented_ones():
    codes = {error.__name__: error.exit_code for error in ERRORS}
    assert codes == {
        "DeepDeltaError": 70,
        "GateError": 1,
        "ConfigError": 2,
        "BackendError": 2,
        "DataError": 3,
        "CheckpointError": 4,
        "NumericsError": 5,
        "StorageError": 6,
        "PeerLostError": 7,
    }


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 6, "runs/x: No space left"),
        (OSError(errno.ENOSPC, "No space left on device"), 6, "No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "secret"), 2, "secret: Permission denied"),
        (MemoryError(), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ZeroDivisionError("a secret of ours"),
            70,
            "a bug in ddl: ZeroDivisionError: a secret of ours (at test_main.py:",
        ),
    ],
    ids=repr,
)
def test_other_errors(error, code, says, failing, capsys):
    assert failing(error) == code
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1


def test_debug_shows_the_traceback(failing, capsys):
    assert failing(errors.DataError("bad"), "--debug") == 3
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("ddl: error: bad\n")


def test_sigterm_is_143_and_its_handler_comes_back(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(
        importlib.import_module("deep_delta.cli.data"), "run", lambda _: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert main(["data"]) == 143
    assert capsys.readouterr().err == "ddl: terminated\n"
    assert signal.getsignal(signal.SIGTERM) == before


def python(code, *arguments, **options):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, **options)


def test_help_imports_neither_torch_nor_pydantic_nor_rich():
    show = "print(sorted({'torch', 'pydantic', 'rich', 'numpy'} & set(sys.modules)))"
    done = python(f"import sys; from deep_delta.cli.main import main; main(['--help']); {show}")
    assert done.stdout.endswith("[]\n"), done.stderr


def test_text_that_the_terminal_cannot_show_is_replaced():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = python(
        "import sys; from deep_delta.cli.main import main; sys.exit(main(['train', '--help']))", env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "gate ? at the start" in done.stdout
