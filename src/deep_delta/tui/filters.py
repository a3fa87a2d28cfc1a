"""Which variants are wanted: a glob or a regular expression, remembered for each folder that is looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from pathlib import Path

from deep_delta.errors import StorageError
from deep_delta.paths import cache_folder
from deep_delta.runs.storage import atomic_write

_MOST = 200  # folders


def matcher(pattern: str) -> tuple[Callable[[str], bool], str]:
    """Whether a name is wanted, and what is wrong with the pattern ("" for nothing).

    `ddl-*` and `ddl-?c` are globs for the whole name; whatever has a sign of a regular expression (^ $ | + . ( ) { } or
    a backslash) is one, found anywhere in the name; so is a plain word. Case does not count.
    """
    if not pattern:
        return lambda name: True, ""
    is_glob = any(sign in pattern for sign in "*?[") and not any(sign in pattern for sign in "^$|+.(){}\\")
    try:
        found = re.compile(translate(pattern) if is_glob else pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as problem:
        return lambda name: pattern.lower() in name.lower(), f"no regular expression: {problem}"
    return (lambda name: found.match(name) is not None) if is_glob else (
        lambda name: found.search(name) is not None
    ), ""


class Memory:
    """The last filter of each set of paths, in the cache folder."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._key = "\n".join(str(path.resolve()) for path in paths)

    @property
    def _file(self) -> Path:
        return cache_folder() / "explorer" / "filters.json"

    def recall(self) -> str:
        """The filter that these paths had; "" where there was none or the file cannot be read."""
        found = self._load().get(self._key)
        return found if isinstance(found, str) else ""

    def keep(self, pattern: str) -> str:
        """Remember a filter; what went wrong, or ""."""
        found = self._load()
        found.pop(self._key, None)
        if pattern:
            found[self._key] = pattern
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self._file, json.dumps(dict(list(found.items())[-_MOST:]), ensure_ascii=False, indent=1))
        except (OSError, StorageError) as problem:
            return f"the filter is not remembered: {problem}"
        return ""

    def _load(self) -> dict[str, object]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, StorageError):
            return {}
        return found if isinstance(found, dict) else {}
