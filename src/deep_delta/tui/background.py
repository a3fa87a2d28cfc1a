"""Whether a terminal is dark or light: what COLORFGBG says, else what the terminal itself answers."""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import time
import tty
from collections.abc import Mapping

from deep_delta.tui.drawing.palette import ThemeName

_ASK = b"\x1b]11;?\x1b\\\x1b[c"  # the ground's colour; then what every terminal answers, so that silence is short
_SECONDS = 0.15
_COLOR = re.compile(rb"\x1b\]11;rgba?:([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})")


def theme_for(environment: Mapping[str, str], answer: bytes | None, colors: str) -> ThemeName:
    """Dark unless something says otherwise; in the terminal's own sixteen colours where it has no more.

    answer: to `ask_terminal`. colors: as rich names what the terminal can do: "standard", "256", "truecolor".
    """
    light = _is_light(answer) if answer else None
    if light is None:
        last = environment.get("COLORFGBG", "").rpartition(";")[2]
        light = last.isdecimal() and int(last) in (7, *range(9, 16))
    if colors == "standard":
        return "ansi-light" if light else "ansi-dark"
    return "light" if light else "dark"


def ask_terminal(descriptor: int) -> bytes:
    """What the terminal says of its ground; b"" where it says nothing in time."""
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        return b""
    answer = b""
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        os.write(descriptor, _ASK)
        until = time.monotonic() + _SECONDS
        while not re.search(rb"\x1b\[\?[\d;]*c", answer) and (left := until - time.monotonic()) > 0:
            if select.select([descriptor], [], [], left)[0]:
                answer += os.read(descriptor, 256)
    except OSError:
        return b""
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
    return answer


def _is_light(answer: bytes) -> bool | None:
    found = _COLOR.search(answer)
    if found is None:
        return None
    red, green, blue = (int(part, 16) / (16 ** len(part) - 1) for part in found.groups())
    return 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
