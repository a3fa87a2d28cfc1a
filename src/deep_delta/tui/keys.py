"""What every key does, and the words of the help for it."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from deep_delta.tui.session import VIEWS

BINDINGS: list[BindingType] = [
    *(Binding(str(index), f"view('{name}')", name) for index, name in enumerate(VIEWS, start=1)),
    Binding("tab", "next_view(1)", "next view", priority=True),
    Binding("shift+tab", "next_view(-1)", "previous view", priority=True),
    Binding("j,down", "choose(1)", "next variant"),
    Binding("k,up", "choose(-1)", "previous variant"),
    Binding("space", "show_or_hide", "show or hide"),
    Binding("a", "show_all", "show all"),
    Binding("n", "next_seed", "next seed"),
    Binding("m", "panel(1)", "next panel"),
    Binding("M,shift+m", "panel(-1)", "previous panel"),
    Binding("right", "cursor(1)", "cursor right"),
    Binding("left", "cursor(-1)", "cursor left"),
    Binding("shift+right", "cursor(10)", "cursor right"),
    Binding("shift+left", "cursor(-10)", "cursor left"),
    Binding("h,escape", "no_cursor", "no cursor"),
    Binding("x", "axis", "x axis"),
    Binding("l", "log", "log y"),
    Binding("s", "smoothing", "smoothing"),
    Binding("d", "difference", "difference to the baseline"),
    Binding("z", "tail", "zoom to the tail"),
    Binding("pagedown", "scroll(10)", "down"),
    Binding("pageup", "scroll(-10)", "up"),
    Binding("home", "scroll(-1000000)", "top"),
    Binding("end", "scroll(1000000)", "bottom"),
    Binding("y", "copy", "copy"),
    Binding("e", "export", "export"),
    Binding("question_mark", "help", "help"),
    Binding("q", "quit", "quit"),
    Binding("ctrl+c", "interrupt", "quit", priority=True),
    Binding("ctrl+z", "suspend_process", "suspend"),
]

KEYS = (
    ("1 2 3 4, Tab", "curves, spectra, comparison, benchmarks"),
    ("j k, ↓ ↑", "choose a variant"),
    ("space", "show or hide it"),
    ("a", "show all variants again"),
    ("n", "its next seed (spectra)"),
    ("/", "filter by glob (ddl-*) or regular expression (cc|ec$); Enter keeps, Esc leaves"),
    ("m M", "next or previous panel in the large place"),
    ("← →, h", "move the cursor through all panels; Shift: ten columns; h takes it away"),
    ("x", "steps, tokens, FLOPs or training time along x"),
    ("l", "logarithmic or linear y"),
    ("s", "smoothing off, 0.6, 0.9, 0.97; the raw line stays behind"),
    ("d", "difference to the baseline"),
    ("z", "all of it, or the last 50%, 20%, 5%"),
    ("PgDn PgUp, Home End", "scroll tables"),
    ("y", "copy values at the cursor, or the table (OSC 52)"),
    ("e", "export the view as SVG and CSV into the present folder"),
    ("?", "this help"),
    ("q", "quit"),
)

SIGNS = (
    ("×", "at the top: a value that is missing or not finite"),
    ("▾", "at the foot: a value that a logarithmic axis cannot show"),
    ("⣿ faint", "the raw line, or the spread over seeds or layers"),
    ("not resolved", "the seeds at hand do not tell two variants apart"),
)
