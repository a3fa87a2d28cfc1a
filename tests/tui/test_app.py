"""The explorer, driven by keys and mouse without a terminal."""

import asyncio
import json
import time

import pytest
from rich.color import ColorType

from deep_delta.explore import open_paths
from deep_delta.tui.app import Explorer
from deep_delta.tui.filters import Memory
from deep_delta.tui.session import Session
from tests.tui.conftest import append


def drive(session, steps, *, size=(80, 24), theme="dark", memory=None, color=True):
    """Run the explorer, and `steps(app, pilot)` in it; what that returns."""

    async def run():
        app = Explorer(session, theme, memory, color=color)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            return await steps(app, pilot)

    return asyncio.run(run())


def shown(app):
    return app.stage.frame.canvas.text()


def test_the_four_views_have_numbers_and_follow_each_other(session):
    async def steps(app, pilot):
        seen = []
        for key in ("2", "3", "4", "1", "tab", "tab", "shift+tab"):
            await pilot.press(key)
            seen.append(app.session.view)
        return seen

    assert drive(session, steps) == [
        "spectra", "comparison", "benchmarks", "curves", "spectra", "comparison", "spectra",
    ]  # fmt: skip


def test_variants_are_chosen_hidden_and_shown_again(session):
    async def steps(app, pilot):
        await pilot.press("j", "down", "k", "space")
        hidden = set(app.session.hidden)
        await pilot.press("a")
        return hidden, set(app.session.hidden), app.session.chosen_variant().label

    assert drive(session, steps) == ({"ddl"}, set(), "ddl")


def test_keys_of_the_curves(session):
    async def steps(app, pilot):
        await pilot.press("l", "x", "s", "d", "z", "m")
        return shown(app)

    text = drive(session, steps, size=(120, 40))
    assert session.log
    assert session.axis == "tokens"
    assert session.smoothing == 0.6
    assert session.difference
    assert session.tail == 0.5
    assert "last 50%" in text.split("\n")[1]
    assert "Δ validation loss" in text.split("\n")[1], "m brought the next panel into the large place"
    assert "tokens" in text


def test_one_cursor_crosses_all_panels(session):
    async def steps(app, pilot):
        await pilot.press("left", "shift+left", "left")
        cursor = app.session.cursor
        columns = [sum("│" in row[plot.rect.x : plot.rect.right] for row in rows_of(app, plot)) for plot in plots(app)]
        await pilot.press("h")
        return cursor, columns, app.session.cursor

    cursor, columns, after = drive(session, steps)
    assert 250 < cursor < 400
    assert cursor == int(cursor)
    assert len(columns) > 3
    assert all(columns)
    assert after is None


def plots(app):
    return app.stage.frame.plots


def rows_of(app, plot):
    return [row.ljust(plot.rect.right) for row in shown(app).split("\n")[plot.rect.y : plot.rect.bottom]]


def test_a_filter_is_typed_kept_and_remembered(session, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_DELTA_CACHE", str(tmp_path))
    memory = Memory([tmp_path / "run"])

    async def steps(app, pilot):
        await pilot.press("slash", *"ccx", "backspace")
        while_typing = shown(app)
        await pilot.press("enter")
        await pilot.press("slash", *"x", "escape")
        return while_typing

    text = drive(session, steps, memory=memory)
    assert "/cc" in text.split("\n")[-1]
    assert "ddl-cc-ec" in text
    assert "baseline" not in text
    assert session.pattern == "cc", "Esc left it as it was"
    assert memory.recall() == "cc"


def test_letters_that_come_at_once_all_belong_to_the_filter(session):
    """As a paste or a fast typist sends them: `q` must not quit."""

    async def steps(app, pilot):
        for key in ("slash", "q", "1", "enter"):
            app.post_message(key_event(key))
        await pilot.pause()
        return app.session.pattern, app.session.view

    assert drive(session, steps) == ("q1", "curves")


def key_event(key):
    from textual import events

    return events.Key(key, {"slash": "/", "enter": "\r"}.get(key, key))


def test_help_shows_every_key_and_what_could_not_be_read(demo_paths, tmp_path, write_run):
    root = write_run("ddl", [3.0, 2.0])
    with (root / "ddl" / "events.jsonl").open("a") as log:
        log.write("{torn}\n")

    async def steps(app, pilot):
        await pilot.press("question_mark")
        page = app.screen.page
        text = "\n".join(page.render_line(y).text for y in range(page.size.height))
        await pilot.press("j", "k", "pagedown", "q")
        return text, len(app.screen_stack)

    text, screens = drive(Session(open_paths([root]).read_all()), steps, size=(80, 50))
    for word in ("1 2 3 4", "OSC 52", "export", "steps, tokens, FLOPs", "passed over"):
        assert word in text
    assert screens == 1


def test_values_are_copied_by_osc_52(session):
    async def steps(app, pilot):
        await pilot.press("y")
        return app.clipboard, app.session.message

    text, message = drive(session, steps)
    assert text.startswith("variant\tstep\tloss\nddl")
    assert message == "copied 7 lines"


def test_a_view_is_exported_into_the_present_folder(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def steps(app, pilot):
        await pilot.press("e", "3", "e")
        return app.session.message

    assert drive(session, steps) == "wrote ddl-comparison-1.svg and ddl-comparison-1.csv"
    assert {path.name for path in tmp_path.iterdir()} == {
        "ddl-curves-1.svg", "ddl-curves-1.csv", "ddl-comparison-1.svg", "ddl-comparison-1.csv",
    }  # fmt: skip


def test_an_export_that_fails_is_said(session, tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    async def steps(app, pilot):
        await pilot.press("e")
        return app.session.message

    assert drive(session, steps)


def test_the_mouse_moves_the_cursor_and_chooses(session):
    async def steps(app, pilot):
        plot = plots(app)[0]
        await pilot.hover(offset=(plot.rect.x + 10, plot.rect.y + 2))
        cursor = app.session.cursor
        row = next(y for y, label in app.stage.frame.rows.items() if label == "ddl-ec")
        await pilot.click(offset=(5, row))
        chosen = app.session.chosen
        await pilot.click(offset=(5, row))
        hidden = set(app.session.hidden)
        await pilot.click(offset=(14, 0))
        return cursor, chosen, hidden, app.session.view

    cursor, chosen, hidden, view = drive(session, steps)
    assert 50 < cursor < 100
    assert chosen == "ddl-ec"
    assert hidden == {"ddl-ec"}
    assert view == "spectra"


def test_tables_scroll(session):
    session.view = "comparison"

    async def steps(app, pilot):
        top = shown(app)
        await pilot.press("pagedown")
        below = shown(app)
        await pilot.press("end", "home")
        return top, below, shown(app)

    top, below, again = drive(session, steps)
    assert "demonstration" in top
    assert "demonstration" not in below
    assert again == top


def test_a_running_log_is_followed_until_it_ends(write_run):
    root = write_run("ddl", [3.0, 2.5])
    session = Session(open_paths([root]).read_all())

    async def steps(app, pilot):
        seen = [shown(app)]
        write_run("ddl", [2.25] * 3, first=3)
        await _until(pilot, lambda: "step 5" in shown(app))
        seen.append(shown(app))
        append(root / "ddl" / "events.jsonl", {"kind": "failed", "step": 5, "problem": "the loss is nan"})
        await _until(pilot, lambda: "failed" in shown(app))
        return [*seen, shown(app)]

    first, second, third = drive(session, steps)
    assert "running, step 2 of 100" in first.split("\n")[0]
    assert "2.250" in second
    assert "failed after step 5" in third.split("\n")[0]


async def _until(pilot, holds):
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until, "it was not seen within ten seconds"
        await pilot.pause(0.05)


def test_what_did_not_change_is_not_drawn_again(session):
    async def steps(app, pilot):
        before = app.stage.num_redraws
        for _ in range(5):
            app._follow()
        return app.stage.num_redraws - before

    assert drive(session, steps) <= 1, "the words for its state, at most once"


def test_a_changing_log_is_drawn_at_most_once_an_interval(write_run):
    root = write_run("ddl", [3.0])
    session = Session(open_paths([root]).read_all())

    async def steps(app, pilot):
        before, calls = app.stage.num_redraws, 0
        follow = app._follow

        for index in range(20):
            write_run("ddl", [2.0], first=2 + index)
            if index % 5 == 4:
                follow()
                calls += 1
        return app.stage.num_redraws - before, calls

    redraws, calls = drive(session, steps)
    assert redraws <= calls + 1


@pytest.mark.parametrize("size", [(1, 1), (160, 50)], ids=str)
def test_every_size_lives(session, size):
    async def steps(app, pilot):
        await pilot.press("2", "right", "3", "4", "question_mark", "escape")
        await pilot.resize_terminal(3, 2)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        return shown(app)

    assert "4 benchmarks" in drive(session, steps, size=size)


@pytest.mark.parametrize(
    ("theme", "color", "kinds"),
    [
        ("dark", True, {ColorType.TRUECOLOR}),
        ("light", True, {ColorType.TRUECOLOR}),
        ("ansi-dark", True, {ColorType.STANDARD, ColorType.DEFAULT}),
        ("ansi-light", True, {ColorType.STANDARD, ColorType.DEFAULT}),
        ("ansi-dark", False, {ColorType.DEFAULT}),
    ],
)
def test_what_reaches_the_terminal_keeps_to_one_kind_of_colours(session, theme, color, kinds):
    async def steps(app, pilot):
        found = set()
        for key in ("2", "slash", "question_mark"):
            await pilot.press(key)
            for strip in app.screen._compositor.render_strips():
                for segment in strip:
                    if segment.style is not None:
                        found |= {c.type for c in (segment.style.color, segment.style.bgcolor) if c is not None}
        return found

    assert drive(session, steps, theme=theme, color=color) <= kinds


def test_quitting_and_interrupting_have_their_codes(session):
    async def quit_(app, pilot):
        await pilot.press("q")
        return app

    async def interrupt(app, pilot):
        await pilot.press("ctrl+c")
        return app

    assert drive(session, quit_).return_code == 0
    assert drive(session, interrupt).return_code == 130


def test_the_demonstration_is_json_that_is_read(demo_paths):
    assert json.loads((demo_paths[0] / "benchmark.json").read_text())["rows"]
