import pytest
from hypothesis import given
from hypothesis import strategies as st

from deep_delta.errors import ConfigError
from deep_delta.generation.stopping import StopStrings


def run(stops, pieces):
    watch, shown = StopStrings(stops), ""
    for piece in pieces:
        shown += watch.push(piece)
        if watch.stopped:
            return shown
    return shown + watch.flush()


def first_stop(stops, text):
    """Where the stop string that is complete first begins, or the length of the text."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return min(starts)
    return len(text)


@given(
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=3),
    st.lists(st.text("abc", max_size=4), max_size=8),
)
def test_however_the_text_is_cut_the_same_is_shown(stops, pieces):
    text = "".join(pieces)
    assert run(stops, pieces) == run(stops, list(text)) == text[: first_stop(stops, text)]


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_none():
    watch = StopStrings(["\n\n"])
    assert watch.push("one\n") == "one"
    assert watch.push("two") == "\ntwo"


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        StopStrings(["x", ""])
