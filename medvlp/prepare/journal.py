"""The record of finished chunks: append-only JSON lines, of which a torn last one is ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Journal:
    """Results of chunks, on disk.

    Attributes:
        offsets: Where in the file the line of each chunk starts, by the chunk's first row.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal, and forget what follows its last whole line.

        Args:
            path: The file, which need not exist yet.
        """
        self.offsets: dict[int, int] = {}
        self._file = open(path, "a+b")  # noqa: SIM115
        self._file.seek(0)
        end = 0
        for line in self._file:
            try:
                first = int(json.loads(line)["first"])
            except (ValueError, TypeError, KeyError):
                break
            if not line.endswith(b"\n"):
                break
            self.offsets[first] = end
            end += len(line)
        self._file.truncate(end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def append(self, result: dict[str, Any]) -> None:
        """Add the result of a chunk; it is safe from a crash of this process when this returns."""
        self.offsets[result["first"]] = self._file.seek(0, 2)
        self._file.write(json.dumps(result, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def read(self, first: int) -> dict[str, Any]:
        """Return the result of the chunk that starts at row `first`."""
        self._file.seek(self.offsets[first])
        result: dict[str, Any] = json.loads(self._file.readline())
        return result

    def forget(self, first: int) -> None:
        """Drop a chunk, so that it will be done again."""
        del self.offsets[first]
