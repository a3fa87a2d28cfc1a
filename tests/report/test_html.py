"""Text stays text, whatever it holds."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from deep_delta.explore import Table
from deep_delta.report.html import embedded, join, tag, visible
from deep_delta.report.tables import duration, number, table

NASTY = ["</script><script>alert(1)</script>", "<!--", "a & b", '" onload="x', "'>", "\u2028", "]]>", "&lt;b&gt;"]


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.text = ""

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.values += [value for _, value in attributes]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", NASTY)
def test_text_and_attributes_come_back_as_they_were(text):
    reader = Reader()
    reader.feed(tag("p", text, title=text))
    assert reader.tags == ["p"]
    assert reader.text == visible(text) == reader.values[0]


@pytest.mark.parametrize("text", NASTY)
def test_json_in_a_script_cannot_end_it(text):
    written = embedded({text: [text]})
    assert not set(written) & set("<>&\u2028")
    assert json.loads(written) == {text: [text]}


def test_json_for_a_browser_has_no_nan():
    with pytest.raises(ValueError):
        embedded([float("nan")])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31m\x00", "␛[31m␀"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udc80", "\\udc80"),
        ("β 日本 é", "β 日本 é"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_page_would_not_show_is_written_out(text, shown):
    assert visible(text) == shown
    join(text).encode()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1234567, "1,234,567"), (0, "0"), (2.5, "2.5"), (-0.25, "−0.25"), (2.47e12, "2.47 × 10¹²"),
        (1.5e-7, "1.50 × 10⁻⁷"), (12345.678, "12,345.7"), (float("nan"), "nan"), (3.0, "3"),
    ],
)  # fmt: skip
def test_numbers_in_words(value, words):
    assert number(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "0.25 s"), (59.2, "59.2 s"), (754, "12 min 34 s"), (18400, "5 h 06 min")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_a_column_of_fractions_aligns_and_nothing_is_a_dash():
    shown = table(Table("Name", ("who", "loss"), [("a", 2.5), ("b", 2.4567), ("<i>", None)]))
    assert [cell.split("<")[0] for cell in shown.split('<td class="number">')[1:]] == ["2.500", "2.457", "–"]
    assert "&lt;i&gt;" in shown
    assert "nothing to show" in table(Table("Name", ("who",), []))
