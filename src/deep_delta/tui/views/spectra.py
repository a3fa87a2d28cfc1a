"""View 2: what the gates of one variant did, over its evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deep_delta.explore import Line, Spectra, Trace
from deep_delta.spectral.regimes import REGIMES
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.chart import ChartStyle, Series, draw_chart
from deep_delta.tui.drawing.heatmap import Heat, draw_heat
from deep_delta.tui.drawing.numbers import number
from deep_delta.tui.drawing.palette import Palette, mark
from deep_delta.tui.drawing.scale import Scale, scale_of
from deep_delta.tui.drawing.stack import Stack, draw_stack
from deep_delta.tui.session import Session
from deep_delta.tui.views.panel import Panel, Plot, draw_panels, say_empty

PANELS = (
    "gate β by layer", "regimes", "eigenvalue", "alignment", "discrepancy", "alignment by layer",
    "spread of β by layer",
)  # fmt: skip
"""Their names, in the order of the screen."""

PARTS = tuple(name.replace("strong-reflection", "strong").removeprefix("near-") for name in REGIMES)
SHORT = ("ident", "interp", "proj", "refl", "strong")
_NAMES = {
    "k_eigenvalue": "along k",  # det(I − βkkᵀ) too
    "lifted_determinant": "det",
    "alignment": "cos",
    "discrepancy_before": "before",
    "discrepancy_after": "after",
}
_COLORS = (1, 0, 2)  # of a panel's lines: sky blue, orange, green


def draw_spectra(canvas: Canvas, rect: Rect, session: Session, palette: Palette) -> list[Plot]:
    trace = session.chosen_trace()
    spectra = None if trace is None else trace.spectra()
    if trace is None or spectra is None or not spectra.steps.size:
        say_empty(canvas, rect, _why_none(session, trace), palette)
        return []
    canvas.put(rect.x, rect.y, title_of(session, trace), palette.line(_number(session)), limit=rect.width)
    x = scale_of(0.0 if spectra.steps[-1] > 0 else spectra.steps[0], float(spectra.steps[-1]), room=0.0)
    if session.tail < 1:
        x = Scale(x.high - (x.high - x.low) * session.tail, x.high)
    panels = [
        _heat_panel("gate β", "beta_mean", (0.0, 2.0), spectra, x, session, palette),
        _shares_panel(spectra, x, session, palette),
        _lines_panel("eigenvalue", ("k_eigenvalue", "lifted_determinant"), spectra, x, session, palette),
        _lines_panel("alignment", ("alignment",), spectra, x, session, palette),
        _lines_panel("discrepancy", ("discrepancy_before", "discrepancy_after"), spectra, x, session, palette),
        _heat_panel("alignment", "alignment", (-1.0, 1.0), spectra, x, session, palette),
        _heat_panel("spread of β", "beta_std", None, spectra, x, session, palette),
    ]
    return draw_panels(canvas, rect.inset(top=1), panels, session.main.get("spectra", ""))


def title_of(session: Session, trace: Trace) -> str:
    """The variant and, where there are several, the seed that is shown."""
    variant = session.chosen_variant()
    assert variant is not None
    seeds = len(variant.traces)
    seed = f", seed {trace.seed}" if trace.seed is not None else ""
    more = f" ({session.seed % seeds + 1} of {seeds}; n: next)" if seeds > 1 else ""
    return f"{mark(variant.number)} {variant.label}{seed}{more}"


def index_at(spectra: Spectra, cursor: float | None) -> int:
    """The evaluation nearest to the cursor; the last one without a cursor."""
    return -1 if cursor is None else int(np.argmin(np.abs(spectra.steps - cursor)))


def _number(session: Session) -> int:
    variant = session.chosen_variant()
    return 0 if variant is None else variant.number


def _why_none(session: Session, trace: Trace | None) -> list[str]:
    if trace is None:
        return ["no variant matches the filter" if session.filter else "no run is open", "/ changes the filter"]
    if trace.slug == "baseline" or trace.measures().count("validation"):
        return [f"{trace.slug} has no gates", "j and k choose another variant"]
    return [f"{trace.slug} was not evaluated yet", "its gates are measured at every evaluation"]


def _heat_panel(
    title: str,
    field: str,
    bounds: tuple[float, float] | None,
    spectra: Spectra,
    x: Scale,
    session: Session,
    palette: Palette,
) -> Panel:
    def draw(canvas: Canvas, rect: Rect) -> Plot:
        heat = Heat(
            title=title,
            values=spectra.values[field].T,
            x=spectra.steps,
            rows=spectra.labels,
            scale=x,
            bounds=bounds,
            x_name="steps",
            cursor=session.cursor_here,
            empty="not measured",
        )
        return Plot(draw_heat(canvas, rect, heat, palette), x)

    return Panel(f"{title} by layer", draw)


def _shares_panel(spectra: Spectra, x: Scale, session: Session, palette: Palette) -> Panel:
    def draw(canvas: Canvas, rect: Rect) -> Plot:
        stack = Stack(
            title="regimes",
            shares=spectra.shares.mean(axis=1),
            x=spectra.steps,
            parts=PARTS,
            short=SHORT,
            scale=x,
            x_name="steps",
            cursor=session.cursor_here,
            empty="not measured",
        )
        return Plot(draw_stack(canvas, rect, stack, palette), x)

    return Panel("regimes", draw)


def _lines_panel(
    title: str, fields: tuple[str, ...], spectra: Spectra, x: Scale, session: Session, palette: Palette
) -> Panel:
    """Means over the sublayers, between the least and the greatest of them."""

    def draw(canvas: Canvas, rect: Rect) -> Plot:
        lines = [over_layers(spectra, field) for field in fields if np.isfinite(spectra.values[field]).any()]
        kept = [field for field in fields if np.isfinite(spectra.values[field]).any()]
        series = [
            Series(color, line, line, is_band=True, is_mean=True, is_chosen=index == 0)
            for index, (color, line) in enumerate(zip(_COLORS, lines, strict=False))
        ]
        note = _readings(kept, lines, index_at(spectra, session.cursor_here), rect.width - len(title) - 2)
        style = ChartStyle(
            title=title,
            x=x,
            x_name="steps",
            note=note,
            log=session.log and title == "discrepancy",
            cursor=session.cursor_here,
            empty="not measured",
            zero=True,
        )
        return Plot(draw_chart(canvas, rect, series[::-1], style, palette), x)

    return Panel(title, draw)


def _readings(fields: Sequence[str], lines: Sequence[Line], at: int, width: int) -> str:
    """What each line of a panel is at one evaluation; without names where there is little room."""
    shown = [
        (mark(color), _NAMES[field], number(line.mean[at], 3))
        for color, field, line in zip(_COLORS, fields, lines, strict=False)
    ]
    long = "  ".join(f"{sign} {name} {value}" for sign, name, value in shown)
    return long if len(long) <= width else " ".join(f"{sign}{value}" for sign, _, value in shown)


def over_layers(spectra: Spectra, field: str) -> Line:
    """Mean, least and greatest over the sublayers that have a value."""
    values = spectra.values[field]
    known = np.isfinite(values)
    count = known.sum(axis=1)
    has = count > 0
    total = np.where(known, values, 0.0).sum(axis=1)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=has)

    def extreme(of: Callable[..., np.ndarray], other: float) -> np.ndarray:
        return np.where(has, of(np.where(known, values, other), axis=1), np.nan)

    line = Line.of(spectra.steps, mean)
    always = known.all(axis=0) | ~known.any(axis=0)  # a sublayer that never has one lacks nothing
    bad = ~known[:, ~always].all(axis=1) if (~always).any() else np.zeros(len(mean), bool)
    return line._replace(low=extreme(np.min, np.inf), high=extreme(np.max, -np.inf), bad=bad)
