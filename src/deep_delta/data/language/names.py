"""The names that `ddl eval --suite` takes."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from deep_delta.data.language.phenomena import PHENOMENA
from deep_delta.errors import ConfigError

SUITES = ("language", "logic")
FAMILIES = tuple(dict.fromkeys(phenomenon.family for phenomenon in PHENOMENA.values()))


def check_names(names: Sequence[str]) -> None:
    """`ConfigError`, with the near ones, for what is neither a suite, nor "all", a family or a phenomenon."""
    known = ["all", *SUITES, *FAMILIES, *PHENOMENA]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"unknown suite {name[:60]!r}; {hint}")


def chosen(names: Sequence[str]) -> tuple[list[str], bool]:
    """The phenomena that these names mean, and whether logic is asked too."""
    check_names(names)
    found: dict[str, None] = {}
    for name in names:
        wanted = {"all", "language"} & {name}
        found |= dict.fromkeys(
            one for one, phenomenon in PHENOMENA.items() if wanted or name in (one, phenomenon.family)
        )
    return list(found), "all" in names or "logic" in names
