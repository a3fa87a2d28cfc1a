"""`ddl schema`: what stands in the files that the commands write, for programs that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from deep_delta.cli.options import Parser
from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import ConfigError
from deep_delta.runs.benchmark import Benchmark
from deep_delta.runs.comparison import TrainingComparison
from deep_delta.runs.event_kinds import Event
from deep_delta.runs.inspection import Inspection
from deep_delta.runs.manifest import Manifest
from deep_delta.runs.schema import json_schema
from deep_delta.runs.suites import SuiteResults

_DESCRIPTION = """
Print the JSON schema (draft 2020-12) of a file that a command writes; without a name, list them. Fields come with what
they mean and their units. Every version of a file names its format_version; within one, fields are added and never
change their meaning.
"""

_EXAMPLES = """
  ddl schema
  ddl schema training_comparison
  ddl schema events > events.schema.json
"""

FILES: Mapping[str, tuple[Any, str]] = {
    "training_comparison": (TrainingComparison, "RUN/training_comparison.json: what a run trained and how it came out"),
    "events": (Event, "one line of RUN/VARIANT/events.jsonl: what happened, in order"),
    "manifest": (Manifest, "manifest.json of a checkpoint: its files and what it was made from"),
    "benchmark": (Benchmark, "ddl benchmark --save: every row with its spread"),
    "suites": (SuiteResults, "ddl eval --save: how much each model gets right"),
    "inspection": (Inspection, "ddl inspect --save: gates, directions, interventions"),
}


def run(arguments: Sequence[str]) -> None:
    parser = Parser("schema [NAME]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which file; the list has them")
    name = parser.parse(arguments).name
    if name is None:
        _list()
    else:
        print(json.dumps(schema(name), indent=2, ensure_ascii=False))


def schema(name: str) -> dict:
    """The JSON schema of a file by name. ConfigError, which lists them, for an unknown one."""
    if name not in FILES:
        raise ConfigError(f"unknown file {name!r}{did_you_mean(name, FILES)}; there are {', '.join(FILES)}")
    kind, about = FILES[name]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **json_schema(kind), "description": about}


def _list() -> None:
    from deep_delta.cli.console import show_table

    show_table(
        "Files that the commands write", ["<name", "<what"], [[name, about] for name, (_, about) in FILES.items()]
    )
