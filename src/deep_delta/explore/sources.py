"""What a path means: a run, several seeds of one, or a result file; told by what lies there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from deep_delta.errors import CheckpointError, ConfigError, DataError
from deep_delta.explore.lenient import Unreadable, read_json
from deep_delta.runs.layout import RunFolder

ResultKind = Literal["benchmark", "suites", "inspection"]
_MOST_RUNS = 1000
_DEPTH = 3


class Result(NamedTuple):
    """A JSON file that `ddl benchmark`, `ddl eval` or `ddl inspect` saved."""

    path: Path
    kind: ResultKind
    content: Any


class Sources(NamedTuple):
    """What a command line means: run folders, each with the variants that are wanted (none named: all), and results."""

    runs: dict[Path, set[str]]
    results: list[Result]
    notices: list[str]


def find_sources(paths: Sequence[Path]) -> Sources:
    """Where a path is a folder: a run, one variant of it, or the runs in it (as `seed-0`, `seed-1`; or all of `runs`).

    `CheckpointError` for a folder that is none of these, `DataError` for a file that is no result, `ConfigError` for
    what is not there.
    """
    found = Sources({}, [], [])
    for path in paths:
        if path.is_dir():
            _add_folder(path, found)
        elif path.name == RunFolder(path.parent).comparison.name and path.exists():
            _add_folder(path.parent, found)
        elif path.exists():
            found.results.append(_result(path))
        else:
            raise ConfigError(f"there is no {path}; give a run's folder, or a file that ddl benchmark --save wrote")
    return found


def _add_folder(path: Path, found: Sources) -> None:
    if is_run(path):
        _add_run(path, None, found)
    elif is_run(path.parent) and (path / "events.jsonl").exists():
        _add_run(path.parent, path.name, found)
    else:
        inside = list(_runs_in(path, depth=_DEPTH))
        if not inside:
            raise CheckpointError(
                f"{path} is no run: it has neither a training_comparison.json nor a variant's events.jsonl; "
                "give the folder that ddl train wrote"
            )
        for folder in dict.fromkeys([path, *(run.parent for run in inside)]):
            found.results.extend(_results_in(folder, found.notices))
        for run in inside:
            _add_run(run, None, found)


def _add_run(path: Path, slug: str | None, found: Sources) -> None:
    if path not in found.runs:
        found.runs[path] = set() if slug is None else {slug}
        found.results.extend(_results_in(path, found.notices))
    elif slug is None or not found.runs[path]:
        found.runs[path] = set()
    else:
        found.runs[path].add(slug)


def _runs_in(path: Path, depth: int) -> Iterator[Path]:
    for entry in _folders(path):
        if is_run(entry):
            yield entry
        elif depth > 1 and not entry.is_symlink():
            yield from _runs_in(entry, depth - 1)


def is_run(path: Path) -> bool:
    """Whether a folder is one that `ddl train` wrote, or began to."""
    if not path.is_dir():
        return False
    return RunFolder(path).comparison.exists() or any((variant / "events.jsonl").exists() for variant in _folders(path))


def _folders(path: Path) -> Iterator[Path]:
    try:
        entries = sorted(path.iterdir())[:_MOST_RUNS]
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    return (entry for entry in entries if entry.is_dir())


def _result(path: Path) -> Result:
    try:
        content = read_json(path)
    except Unreadable as problem:
        raise DataError(f"{problem}; give a run's folder, or a file that ddl benchmark --save wrote") from None
    kind = _kind(content)
    if kind is None:
        raise DataError(f"{path} is no result of ddl; give a file that ddl benchmark, eval or inspect saved")
    return Result(path, kind, content)


def _results_in(path: Path, notices: list[str]) -> Iterator[Result]:
    """Results that lie in a run's folder beside what training wrote."""
    for file in sorted(path.glob("*.json")):
        if file.name in ("training_comparison.json", "tokenizer.json"):
            continue
        try:
            content = read_json(file)
        except Unreadable as problem:
            notices.append(str(problem))
            continue
        if (kind := _kind(content)) is not None:
            yield Result(file, kind, content)


def _kind(content: Any) -> ResultKind | None:
    if not isinstance(content, dict):
        return None
    if {"rows", "ceilings", "capabilities"} <= content.keys():
        return "benchmark"
    kind = content.get("kind")
    return kind if kind in ("suites", "inspection") else None
