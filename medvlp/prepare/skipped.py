"""The list of skipped rows, images and boxes."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from typing import TextIO


class SkippedLog:
    """Writes skipped.csv, and counts the kinds of reasons.

    Attributes:
        kinds: Number of lines by kind of reason, the part before its first colon.
    """

    def __init__(self, file: TextIO, kinds: Mapping[str, int] | None = None) -> None:
        """Continue a file.

        Args:
            file: Open for writing, at its end.
            kinds: Counts of the lines in it; None for a new file.
        """
        self.kinds = Counter(kinds)
        self._writer = csv.writer(file, lineterminator="\n")
        if kinds is None:
            self._writer.writerow(["what", "reason"])

    def __call__(self, what: str, reason: str) -> None:
        """Add a line."""
        self._writer.writerow([what, reason])
        self.kinds[reason.partition(":")[0]] += 1
