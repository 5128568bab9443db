"""Texts on disk, in the order in which they come, and read in any other: memory does not grow with the reports."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence


class TextFile:
    """A temporary file of texts; it goes with the object."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the object lives)
        self._end = 0

    def add(self, texts: Sequence[str]) -> int:
        """Add texts that belong together, and return their position."""
        position = self._end
        self._file.seek(position)
        self._end += self._file.write(json.dumps(texts).encode() + b"\n")
        return position

    def read(self, position: int) -> list[str]:
        """Return the texts at a position."""
        self._file.seek(position)
        texts: list[str] = json.loads(self._file.readline())
        return texts
