"""HTML that cannot be broken by what it shows: every plain string is escaped, markup is a type of its own."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Iterable
from typing import Any

_VOID = frozenset(("meta", "input", "br"))
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))
_JOINERS = "\u200c\u200d"


class Html(str):
    """Markup; a plain `str` is text."""

    __slots__ = ()


Content = str | int | Iterable["Content"] | None


def tag(name: str, /, *content: Content, **attributes: str | bool | None) -> Html:
    """<name attributes>content</name>. Attributes: None and False leave it out, True has no value; a `_` at the end is
    dropped and others become `-`. Content that is no `Html` is text."""
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{html.escape(visible(value))}"')
    opening = f"<{' '.join(words)}>"
    return Html(opening if name in _VOID else f"{opening}{join(content)}</{name}>")


def join(content: Content) -> Html:
    """Contents one after the other."""
    match content:
        case None:
            return Html("")
        case Html():
            return content
        case str() | int():
            return Html(html.escape(visible(str(content))))
    return Html("".join(join(each) for each in content))


def visible(text: str) -> str:
    """Text in which nothing hides: characters that a page would not show, or that reorder others, are written out."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # the pictures of control characters
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def embedded(value: Any) -> Html:
    """JSON for a script element, in which no character can end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(text)
