"""Where things that can be made again are kept."""

from __future__ import annotations

import os
from pathlib import Path

from deep_delta.errors import StorageError

VARIABLE = "DEEP_DELTA_CACHE"


def cache_folder() -> Path:
    """$DEEP_DELTA_CACHE, else ~/.cache/deep_delta. StorageError when there is no such home."""
    chosen = os.environ.get(VARIABLE) or "~/.cache/deep_delta"
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise StorageError(f"no place for the cache {chosen}: {error}; name a folder in {VARIABLE}") from None
