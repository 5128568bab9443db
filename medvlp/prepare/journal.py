"""The record of finished chunks: JSON lines, only ever appended. A torn last line is ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Journal:
    """Results of chunks, on disk.

    Attributes:
        path: The file.
        offsets: Offset of the line of each chunk in the file, by the first row of the chunk.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal, and drop the part behind its last whole line.

        Args:
            path: The file, which need not exist yet.
        """
        self.path = path
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
        """Add the result of a chunk. It then survives a crash of this process."""
        self.offsets[result["first"]] = self._file.seek(0, 2)
        self._file.write(json.dumps(result, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def read(self, first: int) -> dict[str, Any]:
        """Return the result of the chunk that starts at row `first`."""
        self._file.seek(self.offsets[first])
        result: dict[str, Any] = json.loads(self._file.readline())
        return result

    def forget(self, first: int) -> None:
        """Drop a chunk, so that it is decoded again."""
        del self.offsets[first]
