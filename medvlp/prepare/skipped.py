"""The list of what was left out."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from typing import TextIO


class SkippedLog:
    """Writes skipped.csv, and counts the kinds of reasons.

    Attributes:
        kinds: How often each kind of reason, the part before its first colon, was given.
    """

    def __init__(self, file: TextIO, kinds: Mapping[str, int] | None = None) -> None:
        """Go on with a file.

        Args:
            file: Open for writing, at its end.
            kinds: Counts of what it already holds; None for a new file.
        """
        self.kinds = Counter(kinds)
        self._writer = csv.writer(file, lineterminator="\n")
        if kinds is None:
            self._writer.writerow(["what", "reason"])

    def __call__(self, what: str, reason: str) -> None:
        """Add a line."""
        self._writer.writerow([what, reason])
        self.kinds[reason.partition(":")[0]] += 1
