"""`ddl tui` as a command: printing, refusing, and in a real pseudo-terminal."""

import fcntl
import importlib.util
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from deep_delta.explore.demonstration import demonstration

ANSWER = b"\x1b]11;rgb:1414/1717/1c1c\x1b\\\x1b[?62;c"
START = "import sys; from deep_delta.cli.main import main; sys.exit(main())"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return demonstration(tmp_path_factory.mktemp("tui"))[0]


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("curves", ["training loss (nats)", "▸● baseline"]),
        ("spectra", ["gate β, layer × step", "regimes"]),
        ("comparison", ["best first", "not resolved", "Each seed"]),
        ("benchmarks", ["model/fp32/small: training step", "140 ms"]),
    ],
)
def test_a_view_is_printed_without_a_terminal(ddl, folder, view, words):
    code, out, err = ddl("tui", folder, "--once", "--view", view, "--width", 90)
    assert (code, err) == (0, "")
    assert all(word in out for word in words)
    assert max(map(len, out.split("\n"))) <= 90
    assert "\x1b" not in out


def test_printing_makes_tables_as_tall_as_they_are(ddl, folder):
    _, out, _ = ddl("tui", folder, "--once", "--view", "comparison")
    assert out.count("ddl-tokenconv") >= 3
    assert "↓" not in out
    _, out, _ = ddl("tui", folder, "--once", "--view", "comparison", "--height", 10)
    assert len(out.rstrip("\n").split("\n")) == 10


def test_without_a_path_made_up_data_is_shown_and_removed(ddl, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, _ = ddl("tui", "--once", "--view", "benchmarks")
    assert code == 0
    assert "made up by ddl tui" in out
    assert not list(tmp_path.glob("ddl-tui-*"))


def test_a_benchmark_is_held_against_a_saved_one(ddl, folder):
    file = folder / "benchmark.json"
    code, out, _ = ddl("tui", file, "--baseline", file, "--once", "--width", 120)
    assert code == 0
    assert f"gate: passes  against {file}"[:60] in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "--once"], 2, "there is no nowhere"),
        ([".", "--once"], 4, "is no run"),
        (["odd.json", "--once"], 3, "odd.json"),
        (["--once", "--view", "all"], 2, "invalid choice: 'all'"),
        (["--theme", "blue"], 2, "invalid choice: 'blue'"),
        (["--once", "--width", "0"], 2, "--width must be between 1 and 1000, got 0"),
        (["--width", "80"], 2, "--width is for --once"),
        (["--once", "--baseline", "nowhere.json"], 3, "nowhere.json"),
        (["--colour"], 2, "unknown option '--colour'"),
        ([], 2, "ddl tui needs a terminal, and its"),
    ],
)
def test_what_cannot_be_shown_is_one_line(ddl, tmp_path, arguments, code, words):
    (tmp_path / "odd.json").write_text("{}")
    found, out, err = ddl("tui", *arguments)
    assert found == code
    assert err.count("\n") == 1
    assert words in err
    assert out == ""


def test_without_textual_it_says_what_to_install(ddl, monkeypatch, folder):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "textual" else find(name, *rest)
    )
    monkeypatch.setattr("deep_delta.cli.tui._require_terminal", lambda: None)
    code, _, err = ddl("tui", folder)
    assert code == 2
    assert "pip install 'deep-delta-learning[tui]'" in err


def test_neither_torch_nor_for_printing_textual_is_imported(folder):
    script = (
        "import sys; from deep_delta.cli.main import main; "
        f"assert main(['tui', {str(folder)!r}, '--once']) == 0; assert 'textual' not in sys.modules; "
        "import deep_delta.tui.app; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Terminal:
    """`ddl tui` in a pseudo-terminal of its own."""

    def __init__(self, *arguments, size=(80, 24), **environment):
        self.output = b""
        self.main, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.before = termios.tcgetattr(terminal)
        self.terminal = terminal
        surroundings = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORFGBG")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, "tui", *map(str, arguments)],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**surroundings, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment},
            start_new_session=True,
        )

    def wait_for(self, words, answers=b""):
        """Until the words have come, answering the terminal's questions."""
        until = time.monotonic() + 20
        while words.encode() not in self.output:
            assert time.monotonic() < until, self.output[-2000:]
            if select.select([self.main], [], [], 0.2)[0]:
                self.output += os.read(self.main, 1 << 16)
            if answers and b"\x1b]11;?" in self.output:
                os.write(self.main, answers)
                answers = b""

    def send(self, keys):
        os.write(self.main, keys)

    def end(self):
        """The exit code, and all that was written."""
        until = time.monotonic() + 20
        while self.process.poll() is None or select.select([self.main], [], [], 0.1)[0]:
            assert time.monotonic() < until, self.output[-2000:]
            if select.select([self.main], [], [], 0.1)[0]:
                self.output += os.read(self.main, 1 << 16)
        code = self.process.wait()
        restored = termios.tcgetattr(self.terminal) == self.before
        os.close(self.main)
        os.close(self.terminal)
        return code, restored


@pytest.fixture
def terminal():
    """Starts `ddl tui` in a pseudo-terminal; whatever is left of it is ended."""
    started = []

    def start(*arguments, **rest):
        started.append(Terminal(*arguments, **rest))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_in_a_terminal_it_shows_follows_keys_and_leaves_it_as_it_was(folder, terminal):
    terminal = terminal(folder)
    terminal.wait_for("training loss (nats)", ANSWER)
    terminal.send(b"2")
    terminal.wait_for("gate β")
    terminal.send(b"y")
    terminal.wait_for("\x1b]52;c;")
    terminal.send(b"q")
    code, restored = terminal.end()
    assert code == 0
    assert restored
    for begun, ended in ((b"?1049h", b"?1049l"), (b"?25l", b"?25h"), (b"?1000h", b"?1000l"), (b"?2004h", b"?2004l")):
        assert terminal.output.rfind(ended) > terminal.output.rfind(begun) > 0
    assert b";2;" in terminal.output, "colours are RGB"
    assert not re.search(rb"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])(?:;\d+)*m", without_rgb(terminal.output))


def without_rgb(output):
    return re.sub(rb"[34]8;2;\d+;\d+;\d+", b"", output)


@pytest.mark.parametrize(
    ("arguments", "environment", "forbidden"),
    [
        (["--theme", "ansi-light"], {}, rb"[34]8;[25];"),
        (["--theme", "dark"], {"NO_COLOR": "1"}, rb"\x1b\[(?:\d+;)*(?:[34][0-8]|9[0-7]|10[0-7])(?:;\d+)*m"),
    ],
    ids=["ansi", "no colour"],
)
def test_colours_that_were_not_asked_for_never_reach_the_terminal(folder, terminal, arguments, environment, forbidden):
    terminal = terminal(folder, *arguments, "--no-mouse", **environment)
    terminal.wait_for("training loss (nats)")
    terminal.send(b"2")
    terminal.wait_for("gate β")
    terminal.send(b"?")
    terminal.wait_for("Keys")
    terminal.send(b"\x03")
    code, restored = terminal.end()
    assert (code, restored) == (130, True)
    assert not re.search(forbidden, terminal.output)
    assert b"?1000h" not in terminal.output, "the mouse is the terminal's"


def test_asked_to_end_it_leaves_the_terminal_as_it_was(folder, terminal):
    terminal = terminal(folder, "--theme", "dark")
    terminal.wait_for("training loss (nats)")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == (143, True)


def test_a_bug_leaves_the_terminal_as_it_was_and_is_one_line(folder, terminal, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.abc\n"
        "class Break(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'deep_delta.tui.widgets':\n"
        "            import deep_delta.tui.session as session\n"
        "            session.Session.toggle = lambda self: 1 / 0\n"
        "sys.meta_path.insert(0, Break())\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    terminal = terminal(folder, "--theme", "dark", PYTHONPATH=path)
    terminal.wait_for("training loss (nats)")
    terminal.send(b" ")
    assert terminal.end() == (70, True)
    assert b"a bug in ddl: ZeroDivisionError" in terminal.output
    assert b"Traceback" not in terminal.output
