"""The word that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing, for a `word` that is none of `known`.

    Misspelt or cut short; an option is also recognised by its last part: `--max-steps` means `--train.max-steps`.
    """
    known = list(known)
    spellings = {option.rsplit(".", 1)[-1].lstrip("-"): option for option in known}
    spellings |= {option.lstrip("-"): option for option in known}
    for spelling in (word.lstrip("-"), word.rsplit(".", 1)[-1].lstrip("-")):
        close = difflib.get_close_matches(spelling, spellings, n=1, cutoff=0.65)
        close += [longer for longer in spellings if len(spelling) > 2 and longer.startswith(spelling)]
        if close:
            return f" (did you mean {spellings[close[0]]!r}?)"
    return ""
