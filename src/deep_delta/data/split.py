"""What is held out for validation: about 5% of the text, by whole documents, chosen by content alone.

A document's key is the hash of its beginning without white space, so that copies of a document, whatever their names,
line ends and indentation, always fall on the same side. Keys are gathered in buckets; buckets are held out until the
budget is used. Memory does not grow with the corpus, and a document's place does not depend on the order of files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

BUCKETS = 4096
_KEY_LENGTH = 1 << 16
_SHARE = 0.05
_SMALLEST_SHARE = 0.01
_LARGEST_SHARE = 0.5
HELD_OUT_PART = 10  # one tenth of a document that is split by position


@dataclass(frozen=True)
class Split:
    """Which buckets of documents are held out; the documents of bucket `cut` give their last tenth instead."""

    held_out: frozenset[int]
    cut: int | None = None

    @classmethod
    def of(cls, num_bytes: np.ndarray) -> Split:
        """Hold out whole documents where that gives between 1% and half of the text, else cut the longest by position.

        num_bytes: int64 [BUCKETS], bytes of text in each bucket.
        """
        filled = np.flatnonzero(num_bytes)
        total = int(num_bytes.sum())
        chosen, taken = [], 0
        for bucket in filled.tolist():
            if taken + num_bytes[bucket] <= _SHARE * total:
                chosen.append(bucket)
                taken += int(num_bytes[bucket])
        if taken >= _SMALLEST_SHARE * total:
            return cls(frozenset(chosen))
        large = filled[num_bytes[filled] >= _SMALLEST_SHARE * total]
        smallest = int(large[np.argmin(num_bytes[large])])
        if num_bytes[smallest] <= _LARGEST_SHARE * total:
            return cls(frozenset([smallest]))
        return cls(frozenset(), cut=smallest)


def bucket_of(beginning: str) -> int:
    """The bucket of a document, from its first piece."""
    key = "".join(beginning.split())[:_KEY_LENGTH]
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % BUCKETS
