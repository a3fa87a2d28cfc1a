"""Whether a terminal is dark or light."""

import os
import pty
import threading

import pytest

from deep_delta.tui.background import ask_terminal, theme_for

LIGHT = b"\x1b]11;rgb:ffff/ffff/f0f0\x1b\\\x1b[?62;c"
DARK = b"\x1b]11;rgb:14/17/1c\x07\x1b[?62;c"


@pytest.mark.parametrize(
    ("environment", "answer", "colors", "theme"),
    [
        ({}, b"", "truecolor", "dark"),
        ({}, LIGHT, "truecolor", "light"),
        ({}, DARK, "256", "dark"),
        ({}, LIGHT, "standard", "ansi-light"),
        ({}, None, "standard", "ansi-dark"),
        ({"COLORFGBG": "0;15"}, b"", "truecolor", "light"),
        ({"COLORFGBG": "15;0"}, b"", "truecolor", "dark"),
        ({"COLORFGBG": "15;default"}, b"\x1b[?62;c", "truecolor", "dark"),
        ({"COLORFGBG": "0;15"}, DARK, "truecolor", "dark"),
    ],
)
def test_the_answer_counts_before_the_environment(environment, answer, colors, theme):
    assert theme_for(environment, answer, colors) == theme


@pytest.mark.parametrize("answer", [LIGHT, b"\x1b[?6c", b""], ids=["colour", "no colour", "silence"])
def test_a_terminal_is_asked_and_left_as_it_was(answer):
    main, terminal = pty.openpty()
    try:
        import termios

        before = termios.tcgetattr(terminal)
        thread = threading.Thread(target=lambda: (os.read(main, 64), os.write(main, answer) if answer else None))
        thread.start()
        found = ask_terminal(terminal)
        thread.join()
        assert found == answer
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(main)
        os.close(terminal)


def test_what_is_no_terminal_is_not_asked(tmp_path):
    with (tmp_path / "file").open("w") as file:
        assert ask_terminal(file.fileno()) == b""
