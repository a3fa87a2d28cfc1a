"""The names that `ddl eval --suite` takes. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.data.synthetic.tasks import TASKS
from deep_delta.errors import ConfigError

SUITES = ("language", "logic")
FAMILIES = tuple(dict.fromkeys(phenomenon.family for phenomenon in PHENOMENA.values()))


def check_names(names: Sequence[str]) -> None:
    """`ConfigError`, with the near ones, for what is neither "all", nor a suite, a family, a phenomenon or a task."""
    known = ["all", *SUITES, *FAMILIES, *PHENOMENA, *TASKS]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"unknown suite {name[:60]!r}; {hint}")


def chosen(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The phenomena and the tasks that these names mean."""
    check_names(names)
    phenomena = [
        one for one, phenomenon in PHENOMENA.items() if {"all", "language", one, phenomenon.family} & set(names)
    ]
    return phenomena, [task for task in TASKS if {"all", "logic", task} & set(names)]
