"""`ddl`: finds the command, and turns whatever goes wrong into one line on stderr and an exit code."""

from __future__ import annotations

import errno
import importlib
import keyword
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deep_delta import __version__
from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import ConfigError, DeepDeltaError, StorageError

COMMANDS = {
    "demo": "train all six variants on Python's own source and compare them, in minutes",
    "train": "train one or more variants on your text",
    "tui": "look at runs and benchmarks in the terminal, also while they train",
    "compare": "evaluate saved checkpoints on one data set",
    "eval": "language and logic suites, and tasks of lm-evaluation-harness",
    "inspect": "look into a checkpoint: gates, directions, and what changes do",
    "generate": "continue a prompt with a trained model",
    "benchmark": "time the parts on this machine, and gate on a saved run",
    "export": "write the curves and spectra of runs as CSV tables",
    "report": "write runs as one HTML page, and as figures",
    "data": "inspect and prepare corpora and tokenizers",
    "schema": "the JSON schema of the files that the commands write",
    "import": "make a checkpoint of a model of the paper authors' code",
}

HELP = f"""usage: ddl COMMAND [options]

Deep Delta Learning: transformers whose residual connection can overwrite, not only add.

commands:
{chr(10).join(f"  {name:<10} {summary}" for name, summary in COMMANDS.items())}

examples:
  ddl demo                                            six variants, two seeds, one table
  ddl train --variants all --data book.txt --out runs/book --recipe quick
  ddl compare runs/book/*/checkpoints/LATEST --data other.txt
  ddl generate runs/book/ddl-cc/checkpoints/LATEST --prompt "Once upon"

options:
  ddl COMMAND --help   what a command does, its options, defaults and examples
  --version            the version of ddl
  --debug              with any command: show the traceback of an error

exit codes: 0 ok, 1 a gate failed, 2 usage or configuration, 3 data, 4 checkpoint,
5 numerics, 6 storage, 7 another process lost, 70 a bug in ddl, 130 and 143 after
Ctrl-C and SIGTERM
"""

_STORAGE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
_BUG = 70
_SIGNALS = 128
_PIPE_CLOSED = 141


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, not an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when None) and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    if sys.stdout is None:  # closed, as by `>&-`
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # β on a terminal without Unicode is a ?, not a crash
    try:
        with _sigterm_raises():
            return _dispatch(given)
    except BaseException as error:  # noqa: BLE001  (the one place: no traceback ever reaches a user unasked)
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        return _report(error)


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if given[0] == "--version":
        print(f"ddl {__version__}")
        return 0
    command, *rest = given
    if command not in COMMANDS:
        kind = "option" if command.startswith("-") else "command"
        raise ConfigError(f"unknown {kind} {command!r}{did_you_mean(command, COMMANDS)}; see `ddl --help`")
    module = f"{command}_" if keyword.iskeyword(command) else command
    importlib.import_module(f"deep_delta.cli.{module}").run(rest)
    return 0


def _report(error: BaseException) -> int:
    """Say `error` in one line and give its exit code."""
    match error:
        case SystemExit():  # argparse, after --help
            return int(error.code or 0)
        case KeyboardInterrupt():
            return _say("interrupted", _SIGNALS + signal.SIGINT, label="")
        case Terminated():
            return _say("terminated", _SIGNALS + signal.SIGTERM, label="")
        case DeepDeltaError():
            stopped = (
                error.exit_code == 0 or error.exit_code > _SIGNALS
            )  # a training that was asked to stop, and has saved itself
            return _say(str(error), error.exit_code, label="" if stopped else "error: ")
        case BrokenPipeError():  # the reader of our output has left, as in `ddl data | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _PIPE_CLOSED
        case OSError() if error.errno in _STORAGE_ERRNOS:
            return _say(_os_line(error), StorageError.exit_code)
        case OSError() if error.filename is not None:
            return _say(_os_line(error), ConfigError.exit_code)
        case MemoryError():
            return _say("out of memory; a smaller --train.batch-size or --size needs less", ConfigError.exit_code)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return _say(
        f"a bug in ddl: {type(error).__name__}: {error} (at {Path(where.filename).name}:{where.lineno}); "
        "please report the command and what it prints with --debug",
        _BUG,
    )


def _os_line(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror)


def _say(message: str, exit_code: int, label: str = "error: ") -> int:
    print(f"ddl: {label}{' '.join(message.split())}", file=sys.stderr)
    return exit_code


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM as an exception, so that files are closed and the exit code is 143; the earlier handler comes back."""

    def terminate(*_: object) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: signals are someone else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
