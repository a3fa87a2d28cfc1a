"""`ddl tui`: curves, spectra, comparison and benchmarks in the terminal, also of what is training now."""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deep_delta.cli.options import Parser, whole
from deep_delta.errors import ConfigError

if TYPE_CHECKING:
    from deep_delta.explore import Exploration
    from deep_delta.tui.drawing.palette import ThemeName
    from deep_delta.tui.filters import Memory
    from deep_delta.tui.session import Session, ViewName

_DESCRIPTION = """
Look at runs and saved benchmarks, while training goes on or afterwards. Four views: training curves, spectra of the
gates, the comparison of variants, benchmarks. A path is a run's folder, one variant's folder in it, a folder of runs
(seed-0, seed-1, …), or a file that ddl benchmark --save wrote. Without a path it shows made-up data, to try it. Press ?
for the keys. With --once a view is printed as text, which needs no terminal.
"""

_EXAMPLES = """
  ddl tui                                         made-up data
  ddl tui runs/book                               follow a run
  ddl tui runs/book/seed-* before.json
  ddl tui after.json --baseline before.json       and what the gate says
  ddl tui runs/book --once --view comparison
"""

_VIEWS = ("curves", "spectra", "comparison", "benchmarks")
_THEMES = ("auto", "dark", "light", "ansi-dark", "ansi-light")
_SIZE = (80, 24)
_MOST = 1000  # columns or lines


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    _check(options)
    if options.once:
        with _session(options) as (session, _):
            _print(session, options)
        return
    _require_terminal()
    gc.disable()  # until the first screen: nothing that starting makes is garbage, and looking for it costs a tenth
    if importlib.util.find_spec("textual") is None:
        raise ConfigError("ddl tui needs textual; install it with pip install 'deep-delta-learning[tui]'")
    with _session(options) as (session, memory):
        _show(session, memory, options)


def _parser() -> Parser:
    parser = Parser("tui [RUN…|BENCHMARK.json…] [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="runs and saved benchmarks [made-up data]")
    parser.add_argument("--baseline", metavar="FILE", help="a saved benchmark to hold the others against")
    parser.add_argument("--view", choices=_VIEWS, help="what to begin with [curves; benchmarks where there is no run]")
    parser.add_argument(
        "--theme", choices=_THEMES, default="auto", help="auto asks the terminal; ansi: its own sixteen colours [auto]"
    )
    parser.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal, to select text")
    once = parser.add_argument_group("printing")
    once.add_argument("--once", action="store_true", help="print one view as text and leave")
    once.add_argument("--width", type=whole, metavar="INT", help="columns [the terminal's, or 80]")
    once.add_argument("--height", type=whole, metavar="INT", help="lines [the terminal's, or 24; tables: all of it]")
    return parser


def _check(options: argparse.Namespace) -> None:
    for name in ("width", "height"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= _MOST:
            raise ConfigError(f"--{name} must be between 1 and {_MOST}, got {value}")
        if value is not None and not options.once:
            raise ConfigError(f"--{name} is for --once; a terminal has its own size")


def _require_terminal() -> None:
    streams = {"input": sys.__stdin__, "output": sys.__stdout__, "error output": sys.__stderr__}
    for name, stream in streams.items():
        if stream is None or not stream.isatty():
            raise ConfigError(f"ddl tui needs a terminal, and its {name} is none; --once prints a view as text")


@contextmanager
def _session(options: argparse.Namespace) -> Iterator[tuple[Session, Memory | None]]:
    """What the options name, opened, with the filter that it had; made-up data is removed at the end."""
    from deep_delta.explore import open_paths
    from deep_delta.runs.benchmark import Benchmark
    from deep_delta.tui.filters import Memory
    from deep_delta.tui.session import Session

    baseline = Benchmark.read(Path(options.baseline)) if options.baseline else None
    folder = None
    try:
        paths = [Path(path) for path in options.paths]
        memory = Memory(paths) if paths else None
        if not paths:
            from deep_delta.explore.demonstration import demonstration

            folder = Path(tempfile.mkdtemp(prefix="ddl-tui-"))
            paths = demonstration(folder)
        exploration = open_paths(paths)
        view: ViewName = options.view or _first_view(exploration)
        session = Session(exploration, baseline, options.baseline or "", view)
        session.pattern = memory.recall() if memory is not None else ""
        if folder is not None:
            session.say("made-up data: ddl tui RUN shows yours; ? for the keys")
        yield session, memory
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _first_view(exploration: Exploration) -> ViewName:
    """The first that has anything to show."""
    if exploration.runs:
        return "curves"
    return "benchmarks" if exploration.benchmarks else "comparison"


def _show(session: Session, memory: Memory | None, options: argparse.Namespace) -> None:
    from deep_delta.tui.app import Explorer

    colored = not os.environ.pop("NO_COLOR", "")  # ours to keep: textual's own filter expects a style everywhere
    theme = _theme(options.theme)
    if not colored:
        theme = "ansi-light" if theme.endswith("light") else "ansi-dark"
    session.exploration.poll(0.1)  # a small run is there with the first screen
    app = Explorer(session, theme, memory, color=colored)
    app.run(mouse=not options.no_mouse)
    if app.failure is not None:
        raise app.failure
    _leave(app.return_code or 0)


def _leave(code: int) -> None:
    """Ctrl-C and signals end as they do in every command."""
    import signal

    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(code)


def _theme(asked: str) -> ThemeName:
    if asked != "auto":
        return asked  # type: ignore[return-value]
    from rich.console import Console

    from deep_delta.tui.background import ask_terminal, theme_for

    colors = Console(stderr=True).color_system or "standard"
    return theme_for(os.environ, ask_terminal(sys.__stdin__.fileno()) if sys.__stdin__ else None, colors)


def _print(session: Session, options: argparse.Namespace) -> None:
    """One frame on stdout, in colour where that is a terminal."""
    from rich.console import Console
    from rich.text import Text

    from deep_delta.tui.drawing.palette import palette
    from deep_delta.tui.once import once

    session.exploration.read_all()
    session.say("")
    out = Console(highlight=False, soft_wrap=True)
    width = options.width or (out.width if out.is_terminal else _SIZE[0])
    theme: ThemeName = options.theme if options.theme != "auto" else "ansi-dark"
    lines = max(10, out.height - 1) if out.is_terminal else _SIZE[1]
    canvas = once(session, width, options.height, palette(theme, color=not out.no_color), lines=lines)
    for y in range(canvas.height):
        line = Text.assemble(*canvas.runs(y), end="")
        if not out.is_terminal:
            line.rstrip()
        out.print(line)
