"""What keys change."""

from deep_delta.explore import open_paths
from deep_delta.tui.session import Session, status_of, summary


def test_choosing_goes_round_the_list(session):
    labels = [variant.label for variant in session.listed()]
    assert session.chosen_variant().label == labels[0]
    session.choose(-1)
    assert session.chosen_variant().label == labels[-1]
    session.choose(1)
    assert session.chosen_variant().label == labels[0]


def test_a_hidden_variant_stays_in_the_list(session):
    session.choose(1)
    session.toggle()
    hidden = session.chosen_variant().label
    assert hidden in [variant.label for variant in session.listed()]
    assert hidden not in [variant.label for variant in session.shown()]
    session.toggle()
    assert [variant.label for variant in session.shown()][-1] == hidden, "the chosen one lies on top"


def test_a_filter_that_leaves_nothing(session):
    session.pattern = "nothing like it"
    session.choose(1)
    session.toggle()
    session.next_axis()
    assert session.listed() == []
    assert session.chosen_variant() is None
    assert session.chosen_trace() is None
    assert session.measures() == []


def test_the_x_axis_goes_through_what_every_run_has(session, write_run):
    seen = []
    for _ in range(5):
        seen.append(session.axis)
        session.next_axis()
    assert seen == ["step", "tokens", "flops", "seconds", "step"]
    plain = Session(open_paths([write_run("ddl", [3.0, 2.0])]).read_all())
    assert plain.axes() == ["step", "tokens", "seconds"], "its log does not count FLOPs"


def test_of_the_spectra_the_first_variant_with_gates_is_chosen(session):
    session.view = "spectra"
    assert session.chosen_variant().slug == "ddl"


def test_the_words_for_all_runs(write_run):
    root = write_run("baseline", [3.0, 2.0], end="finished")
    write_run("ddl", [3.0, 2.0], end="failed")
    exploration = open_paths([root]).read_all()
    assert summary(exploration).text == "ddl failed after step 2 of 100: the loss is nan"
    write_run("ddl-cc", [3.0, 2.0])
    exploration = open_paths([root]).read_all()
    assert summary(exploration).kind == "failed"
    running = next(variant for variant in exploration.variants if variant.slug == "ddl-cc")
    assert status_of(running.traces).text == "running, step 2 of 100"
    assert Session(exploration).chosen_variant().slug == "ddl-cc", "what is training is followed"


def test_a_message_is_shown_for_a_while(session):
    assert session.message == ""
    session.say("copied")
    assert session.message == "copied"


def test_a_cursor_stays_with_what_it_counts(session):
    assert session.put_cursor(99.6)
    assert session.cursor_here == 100
    assert not session.put_cursor(100.2)
    session.next_axis()
    assert session.cursor_here is None, "tokens are no steps"
    session.view = "spectra"
    assert session.cursor_here == 100, "spectra are over steps"
    session.view = "curves"
    session.put_cursor(2048.0)
    session.view = "spectra"
    assert session.cursor_here is None
