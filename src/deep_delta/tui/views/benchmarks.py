"""View 4: saved benchmarks with their spread, and against a baseline what the gate says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.style import Style

from deep_delta.benchmarks.gate import Verdict
from deep_delta.explore.exploration import Saved
from deep_delta.explore.tables import gate
from deep_delta.runs.benchmark import Benchmark, BenchmarkRow
from deep_delta.tui.drawing.canvas import Canvas, Rect
from deep_delta.tui.drawing.columns import Cell, Column, Spans, table_lines
from deep_delta.tui.drawing.numbers import bytes_text, count, seconds_text
from deep_delta.tui.drawing.palette import Palette
from deep_delta.tui.filters import matcher
from deep_delta.tui.session import Session
from deep_delta.tui.views.panel import Plot, draw_lines, say_empty

_COLUMNS = (
    Column("", is_text=True),
    Column("median"),
    Column("±", rank=3),
    Column("quartiles", rank=7, is_text=True),
    Column("ratio", rank=1),
    Column("tokens/s", rank=6),
    Column("peak", rank=4),
    Column("saved", rank=5),
    Column("baseline", rank=2, is_text=True),
)
_PHASES = {"forward": "forward", "forward_backward": "forward and backward", "step": "training step"}


def draw_benchmarks(canvas: Canvas, rect: Rect, session: Session, palette: Palette) -> list[Plot]:
    lines = benchmark_lines(session, rect.width - 2, palette)
    if not lines:
        advice = ["no benchmark is open", "ddl benchmark --save FILE measures one; ddl tui FILE shows it"]
        say_empty(canvas, rect, advice, palette)
        return []
    session.scroll["benchmarks"] = draw_lines(
        canvas, rect.inset(left=1), lines, session.scroll.get("benchmarks", 0), palette
    )
    return []


def benchmark_lines(session: Session, width: int, palette: Palette) -> list[Spans]:
    """Everything of the view, a section a file."""
    lines: list[Spans] = []
    for saved in session.exploration.benchmarks:
        lines += [[]] if lines else []
        lines += _file_lines(saved, session, width, palette)
    return lines


def verdict_of(session: Session, benchmark: Benchmark) -> Verdict | str | None:
    """What the gate says against the baseline; why it says nothing; None without a baseline."""
    return None if session.baseline is None else gate(benchmark, session.baseline)


def _file_lines(saved: Saved, session: Session, width: int, palette: Palette) -> list[Spans]:
    benchmark: Benchmark = saved.record
    hardware = benchmark.origin.hardware
    machine = hardware.get("gpu") or hardware.get("processor", "an unknown machine")
    quick = ", quick" if benchmark.quick else ""
    verdict = verdict_of(session, benchmark)
    lines: list[Spans] = [
        [(saved.path.name, palette.title), (f"  {benchmark.date[:10]}{quick}", palette.dim)],
        [(f"{machine}; other load: {benchmark.load}", palette.dim)],
    ]
    lines += _gate_lines(verdict, session.baseline_name, palette)
    changes = _changes(verdict, palette)
    wanted, _ = matcher(session.filter)
    for _, rows in groupby((row for row in benchmark.rows if wanted(row.name)), _group):
        lines += [[], *_group_lines(list(rows), changes, session, width, palette)]
    for one in (one for one in benchmark.unmeasured if wanted(one.name)):
        style = palette.bad if one.kind == "wrong" else palette.warning
        lines.append([(f"{one.name}: ", palette.text), (f"{one.kind}: {one.reason}", style)])
    return lines


def _gate_lines(verdict: Verdict | str | None, name: str, palette: Palette) -> Iterator[Spans]:
    if verdict is None:
        return
    if isinstance(verdict, str):
        yield [(f"gate: {verdict}", palette.warning)]
        return
    if verdict.passes:
        yield [("gate: passes", palette.good), (f"  against {name}", palette.dim)]
        return
    yield [
        (f"gate: fails, {len(verdict.regressions)} worse, {len(verdict.missing)} not compared", palette.bad),
        (f"  against {name}", palette.dim),
    ]
    for row, reason in list(verdict.missing.items())[:5]:
        yield [(f"  {row}: ", palette.text), (reason, palette.warning)]


def _changes(verdict: Verdict | str | None, palette: Palette) -> dict[str, Cell]:
    """Of every row: each figure's change against the baseline, what is worse in its own style."""
    if not isinstance(verdict, Verdict):
        return {}
    found: dict[str, list[tuple[str, Style]]] = {}
    for change in verdict.changes:
        word = f"{change.figure.split()[0].replace('seconds', 'time') if change.kind == 'memory' else change.kind}"
        sign, style = ("✗", palette.bad) if change.is_regression else (" ", palette.dim)
        found.setdefault(change.name, []).append((f"{sign}{word} {change.growth:+.0%} ", style))
    return {name: Cell("", parts=tuple(parts)) for name, parts in found.items()}


def _group(row: BenchmarkRow) -> tuple[str, ...]:
    """What rows of one table share."""
    return row.suite, row.phase, row.precision, row.relative_to or "/".join(row.name.split("/")[:3])


def _group_lines(
    rows: Sequence[BenchmarkRow], changes: dict[str, Cell], session: Session, width: int, palette: Palette
) -> list[Spans]:
    parts = [row.name.split("/")[:-1] for row in rows]
    shared = [len(set(same)) == 1 for same in zip(*parts, strict=False)]
    shared += [False] * (max(map(len, parts)) - len(shared))
    if all(shared):
        shared[-1] = len(shared) < 2
    title = "/".join(part for part, is_shared in zip(parts[0], shared, strict=False) if is_shared)
    reference = rows[0].relative_to
    low, high = min(row.seconds.lower for row in rows), max(row.seconds.upper for row in rows)
    cells = [
        [
            Cell(_label(row, shared), palette.warning if row.loaded else palette.text),
            Cell(seconds_text(row.seconds.median), palette.text),
            Cell(f"{_spread(row):.0%}", palette.dim),
            Cell(whisker(row, low, high, 41 if width >= 110 else 17), palette.line(1)),
            Cell(f"{row.seconds.relative:.2f}" if reference else "", palette.text),
            Cell("" if row.tokens_per_second is None else count(row.tokens_per_second), palette.text),
            Cell("" if row.peak_bytes is None else bytes_text(row.peak_bytes), palette.text),
            Cell("" if row.saved_bytes is None else bytes_text(row.saved_bytes), palette.text),
            changes.get(row.name, Cell("")),
        ]
        for row in rows
    ]
    head = f"{title}: {_PHASES[rows[0].phase]}"
    lines: list[Spans] = [[(head, palette.title)]]
    lines += table_lines(_COLUMNS, cells, width, palette.dim, None)
    if any(row.loaded for row in rows):
        lines.append([("* measured while something else loaded the machine", palette.warning)])
    return lines


def _label(row: BenchmarkRow, shared: Sequence[bool]) -> str:
    """What tells the row from the others of its table."""
    parts = zip(row.name.split("/")[:-1], shared, strict=False)
    label = "/".join(part for part, is_shared in parts if not is_shared)
    return f"{label} *" if row.loaded else label


def _spread(row: BenchmarkRow) -> float:
    """Half the distance of the quartiles, as a part of the median."""
    return (row.seconds.upper - row.seconds.lower) / 2 / row.seconds.median if row.seconds.median else 0.0


def whisker(row: BenchmarkRow, low: float, high: float, cells: int) -> str:
    """From the lower to the upper quartile, the median marked, on an axis of `cells` that the group shares."""
    spread = high - low

    def place(seconds: float) -> int:
        return round((seconds - low) / spread * (cells - 1)) if spread > 0 else 0

    first, middle, last = place(row.seconds.lower), place(row.seconds.median), place(row.seconds.upper)
    drawn = [" "] * cells
    for at in range(max(0, first), min(cells - 1, last) + 1):
        drawn[at] = "─"
    drawn[min(cells - 1, max(0, middle))] = "●"
    return "".join(drawn)
