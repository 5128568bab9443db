"""JSON files that grow with the studies, like the tables of `medvlp.phantom.files`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from medvlp.phantom.files import Stream, Table


class JsonLines(Table):
    """A JSON object a line."""

    def __init__(self, path: Path) -> None:
        """Begin the file."""
        Stream.__init__(self, path)

    def rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add objects."""
        for row in rows:
            self.line(json.dumps(row))


class JsonObject(Table):
    """One JSON object, its entries one a line."""

    def __init__(self, path: Path) -> None:
        """Begin the object."""
        Stream.__init__(self, path)
        self._before = "{"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the object and close the file."""
        if kind is None:
            self.line("{}" if self._before == "{" else "}")
        super().__exit__(kind, error, trace)

    def rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add entries.

        Args:
            rows: Each a mapping of new keys to their values.
        """
        for row in rows:
            for key, value in row.items():
                self.line(f"{self._before}{json.dumps(key)}: {json.dumps(value)}")
                self._before = ","
