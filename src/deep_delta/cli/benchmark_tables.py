"""A benchmark as tables: a group of rows that were timed in turns is one table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.text import Text

from deep_delta.benchmarks.bars import MEASURES, Standing, short_name, standings
from deep_delta.benchmarks.gate import Change, Verdict
from deep_delta.cli.console import Cell, count, out, show_table
from deep_delta.runs.benchmark import Benchmark, BenchmarkRow, Ceiling

Ceilings = Mapping[tuple[str, str], Ceiling]
_PHASES = {"forward": "forward", "forward_backward": "forward and backward", "step": "training step"}


def show_benchmark(found: Benchmark) -> None:
    """All of it: groups, growth, bars, what was not measured."""
    ceilings: Ceilings = {(one.kind, one.precision): one for one in found.ceilings}
    for _, rows in groupby(found.rows, _group):
        _show_group(list(rows), ceilings)
    _show_growth(found)
    _show_bars(standings(found))
    _show_reasons("Not measured", {one.name: one.reason for one in found.unmeasured})
    out.print(Text(_machine(found), "dim"))


def show_verdict(verdict: Verdict) -> None:
    """What has become worse, or the largest changes where nothing has."""
    changes = verdict.regressions or sorted(verdict.changes, key=lambda change: -abs(change.growth))[:5]
    out.print(
        "[bold]Worse than the baseline[/]" if verdict.regressions else "[bold]No regression; the largest changes[/]"
    )
    for change in changes:
        out.print(f"  {change_text(change)}", soft_wrap=True)
    out.print()
    _show_reasons("Not compared", verdict.missing)


def _show_reasons(title: str, reasons: Mapping[str, str]) -> None:
    """Names in full, under the reason that they share."""
    if reasons:
        out.print(Text(title, "bold"))
    for reason in dict.fromkeys(reasons.values()):
        out.print(Text(f"  {reason}", "yellow"), soft_wrap=True)
        for name in (name for name, why in reasons.items() if why == reason):
            out.print(f"    {name}", soft_wrap=True)
    if reasons:
        out.print()


def change_text(change: Change) -> str:
    """`NAME: time 1.00 ms → 2.00 ms (+100%)`"""
    before, after = _before_after(change)
    return f"{change.name}: {change.figure.replace('seconds', 'time')} {before} → {after} ({change.growth:+.0%})"


def _before_after(change: Change) -> tuple[str, str]:
    show = {"time": seconds_text, "ratio": "{:.3f}".format, "memory": bytes_text}[change.kind]
    return show(change.before), show(change.after)


def _group(row: BenchmarkRow) -> tuple[str, ...]:
    """What rows of one table share."""
    return row.suite, row.phase, row.precision, row.relative_to or "/".join(row.name.split("/")[:3])


def _show_group(rows: Sequence[BenchmarkRow], ceilings: Ceilings) -> None:
    parts = [row.name.split("/")[:-1] for row in rows]
    shared = [len(set(same)) == 1 for same in zip(*parts, strict=True)]
    if all(shared):
        shared[-1] = len(shared) < 2
    title = "/".join(part for part, is_shared in zip(parts[0], shared, strict=True) if is_shared)
    reference = rows[0].relative_to
    unit, reached = _reached(rows, ceilings)
    columns: dict[str, list[Cell]] = {
        "<": [_label(row, shared) for row in rows],
        "median": [seconds_text(row.seconds.median) for row in rows],
        "±": [f"{(row.seconds.upper - row.seconds.lower) / 2 / row.seconds.median:.0%}" for row in rows],
        "ratio": [f"{row.seconds.relative:.2f}" if reference else "" for row in rows],
        "tokens/s": [_tokens(row) for row in rows],
        unit: reached,
        "peak": ["" if row.peak_bytes is None else bytes_text(row.peak_bytes) for row in rows],
        "saved": ["" if row.saved_bytes is None else bytes_text(row.saved_bytes) for row in rows],
    }
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    note = f"{rows[0].seconds.rounds} rounds in turns; ± half the distance of the quartiles"
    note += f"\nratio: time ÷ {short_name(reference)}" if reference else ""
    note += f"; beside {unit} the share of the machine's own" if "%" in "".join(map(str, reached)) else ""
    note += "\n* measured while something else loaded the machine" if any(row.loaded for row in rows) else ""
    show_table(f"{title}: {_PHASES[rows[0].phase]}", list(columns), zip(*columns.values(), strict=True), note)


def _tokens(row: BenchmarkRow) -> str:
    """Of models: those of a part say nothing of a whole."""
    return (
        count(row.tokens_per_second) if row.suite in ("model", "decode") and row.tokens_per_second is not None else ""
    )


def _label(row: BenchmarkRow, shared: Sequence[bool]) -> Cell:
    """What tells the row from the others of its table."""
    parts = zip(row.name.split("/")[:-1], shared, strict=True)
    label = "/".join(part for part, is_shared in parts if not is_shared)
    return Text(f"{label} *", "yellow") if row.loaded else label


def _reached(rows: Sequence[BenchmarkRow], ceilings: Ceilings) -> tuple[str, list[Cell]]:
    """Rates and their shares of the ceiling that the rows come nearest to: the matrix product's, or the copy's."""
    rates: dict[str, list[float | None]] = {
        "gemm": [row.flops_per_second for row in rows],
        "copy": [row.bytes_per_second for row in rows],
    }
    most = {
        kind: ceiling.per_second for (kind, precision), ceiling in ceilings.items() if precision == rows[0].precision
    }
    nearest = max(rates, key=lambda kind: max((rate or 0) / most.get(kind, math.inf) for rate in rates[kind]))
    shares = ["" if rate is None or nearest not in most else f" {rate / most[nearest]:.0%}" for rate in rates[nearest]]
    cells: list[Cell] = [
        "" if rate is None else f"{rate / 1e9:.3g}{share}" for rate, share in zip(rates[nearest], shares, strict=True)
    ]
    return {"gemm": "GFLOP/s", "copy": "GB/s"}[nearest], cells


def _show_growth(found: Benchmark) -> None:
    rows = [
        [
            one.name,
            f"{one.sizes[0]:,} – {one.sizes[-1]:,}",
            f"{one.exponent:.2f}",
            "" if one.counted is None else f"{one.counted:.2f}",
        ]
        for one in found.growth
    ]
    if rows:
        note = "p in time ∝ size^p, fitted over all sizes; beside it p of the counted operations"
        show_table("Growth", ["<", "sizes", "time", "counted"], rows, note)
    for crossing in found.crossings:
        name, other = short_name(crossing.name), short_name(crossing.other)
        first = "at no length tried" if crossing.first is None else f"from {crossing.first:,} tokens on"
        out.print(f"{name} is faster than {other} {first}: {_ratios(crossing.sizes, crossing.ratios)}\n")


def _ratios(sizes: Sequence[int], ratios: Sequence[float]) -> str:
    return ", ".join(f"{size:,}: {ratio:.2f}" for size, ratio in zip(sizes, ratios, strict=True))


def _show_bars(found: Sequence[Standing]) -> None:
    if not found:
        return
    rows: list[list[Cell]] = [
        [
            "/".join(one.name.split("/")[2 if one.name.startswith("peers/") else 1 :][:3]),
            MEASURES[one.bar.measure].format(one.against),
            "never" if math.isinf(one.value) else f"{one.value:.3g}",
            f"{'≥' if one.bar.at_least else '≤'} {one.bar.bar:g}",
            "" if one.bar.released is None else f"{one.bar.released:g}",
            Text("met", "green") if one.holds else Text("not met", "red"),
        ]
        for one in found
    ]
    note = "released: the paper authors' code (arXiv 2601.00417), eager, on another machine"
    show_table("Bars", ["<row", "<figure", "here", "bar", "released", "<"], rows, note)


def _machine(found: Benchmark) -> str:
    hardware = found.origin.hardware
    name = hardware.get("gpu", hardware["processor"])
    threads = f"{hardware['threads']} {'thread' if hardware['threads'] == '1' else 'threads'}"
    lines = [f"{name}, {threads} ({', '.join(found.capabilities)})", f"other load: {found.load}"]
    lines += _ceilings(found.ceilings)
    return "\n".join(lines)


def _ceilings(ceilings: Sequence[Ceiling]) -> Iterator[str]:
    for precision, same in groupby(ceilings, lambda one: one.precision):
        rates = [
            f"{one.kind} {one.per_second / 1e9:.3g} {'GFLOP/s' if one.kind == 'gemm' else 'GB/s'} ({one.by})"
            for one in same
        ]
        yield f"the machine in {precision}: {', '.join(rates)}"


def seconds_text(seconds: float) -> str:
    """1.23 s · 45.6 ms · 789 µs"""
    for least, scale, unit in ((1.0, 1.0, "s"), (1e-3, 1e3, "ms")):
        if seconds >= least:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def bytes_text(number: float) -> str:
    """1.23 GB · 45.6 MB · 789 kB"""
    for scale, unit in ((1e9, "GB"), (1e6, "MB")):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"
