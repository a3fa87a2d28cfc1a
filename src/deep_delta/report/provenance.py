"""The head of a page: what was run, on what, how it differs, and what did not go well."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from deep_delta.explore import Exploration, Trace
from deep_delta.explore.exploration import Run
from deep_delta.explore.tables import differences
from deep_delta.report.html import Content, Html, tag
from deep_delta.report.tables import duration, table

UNKNOWN = "not recorded"
_SERIOUS = ("failed", "stopped", "silent")


def facts(exploration: Exploration) -> Html:
    """Commands, data, seeds, start and duration, commit, versions and machine; "not recorded" where a run lacks it."""
    traces, runs = exploration.traces, exploration.runs
    commands = _distinct(shlex.join(command) for trace in traces for command in trace.commands)
    origins = [run.comparison.origin for run in runs if run.comparison is not None]
    commits = _distinct(_commit(trace.commit) for trace in traces if trace.commit)
    commits = commits or _distinct(_commit(origin.commit) for origin in origins if origin.commit)
    rows: list[tuple[str, list[Content]]] = [
        ("Command" if len(commands) < 2 else "Commands", [tag("code", command) for command in commands]),
        ("Data", [*_distinct(_data(run) for run in runs if run.comparison is not None)]),
        ("Seeds", [_listed(trace.seed for trace in traces)]),
        ("Started", [_moment(min((trace.started for trace in traces if trace.started), default=""))]),
        ("Ended", [_moment(max((trace.ended for trace in traces if trace.ended), default=""))]),
        ("Duration", [_duration(traces)]),
        ("Commit", [*commits]),
        ("Versions", [*_distinct(_pairs(origin.versions) for origin in origins)]),
        ("Machine", [*_distinct(_pairs(origin.hardware) for origin in origins)]),
    ]
    cells = [
        (tag("dt", name), [tag("dd", value) for value in values if value] or tag("dd", UNKNOWN, class_="dim"))
        for name, values in rows
    ]
    return tag("dl", [part for pair in cells for part in pair], class_="facts")


def problems(exploration: Exploration) -> Html | None:
    """Runs that failed, stopped or fell silent, and what could not be read; None where all is well."""
    lines = [
        tag("li", tag("span", f"{trace.run}/{trace.slug}: {trace.status.text}", class_="bad"))
        for trace in exploration.traces
        if trace.status.kind in _SERIOUS
    ]
    lines += [tag("li", notice) for notice in exploration.notices]
    return tag("ul", lines, class_="notices") if lines else None


def configuration(exploration: Exploration) -> Html:
    """In what the variants and runs differ, and everything else that was set."""
    known = {
        f"{variant.label}": _configuration(variant.traces[0])
        for variant in exploration.variants
        if variant.traces and (variant.traces[0].model or variant.traces[0].training)
    }
    if not known:
        return tag("p", f"configuration: {UNKNOWN}", class_="note")
    differing = differences(known)._replace(name="Differences between the variants")
    changed = {row[0] for row in differing.rows}
    first = next(iter(known.values()))
    common = [(name, value) for name, value in first.items() if name not in changed]
    pairs = [tag("div", tag("dt", name), tag("dd", tag("code", _plain(value)))) for name, value in common]
    return tag(
        "details",
        tag("summary", "Configuration"),
        table(differing) if differing.rows else tag("p", "all variants have the same configuration", class_="note"),
        tag("h3", "The same in all"),
        tag("dl", pairs, class_="settings"),
    )


def _configuration(trace: Trace) -> Mapping[str, Any]:
    training = {f"train.{name}": value for name, value in trace.training.items() if name != "seed"}
    return {**training, **{f"model.{name}": value for name, value in trace.model.items()}}


def _data(run: Run) -> str:
    assert run.comparison is not None
    data, spec = run.comparison.data, run.comparison.data_spec
    said = f" (--data {spec})" if spec and spec != data.name else ""
    return f"{data.name}{said}, tokenizer {data.tokenizer}, sha256 {data.sha256[:16]}…"


def _commit(commit: str | None) -> str:
    if commit is None:
        return ""
    dirty = commit.endswith("-dirty")
    return f"{commit.removesuffix('-dirty')}, {'with uncommitted changes' if dirty else 'clean'}"


def _duration(traces: Iterable[Trace]) -> str:
    seconds = sum(trace.seconds for trace in traces)
    return f"{duration(seconds)} of training steps, all variants and seeds together" if seconds else ""


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _listed(seeds: Iterable[int | None]) -> str:
    return ", ".join(str(seed) for seed in sorted({seed for seed in seeds if seed is not None}))


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _plain(value: Any) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
