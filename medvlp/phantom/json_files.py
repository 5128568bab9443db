"""JSON files that grow with the studies, like the tables of `medvlp.phantom.files`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from medvlp.phantom.files import Listing


class JsonLines(Listing):
    """A JSON object a line."""

    def rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add objects."""
        for row in rows:
            self.line(json.dumps(row))


class JsonItems(Listing):
    """A JSON list or object, an item of it a line.

    Args:
        path: The file.
        brackets: What opens and what closes it.
    """

    def __init__(self, path: Path, brackets: tuple[str, str]) -> None:
        super().__init__(path)
        self._opening, self._closing = brackets
        self._before = self._opening

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the list or object and close the file; see `Stream`."""
        if kind is None:
            self.line(("" if self._before == "," else self._opening) + self._closing)
        super().__exit__(kind, error, trace)

    def item(self, text: str) -> None:
        """Add an item."""
        self.line(self._before + text)
        self._before = ","


class JsonList(JsonItems):
    """A JSON list of objects, one a line."""

    def __init__(self, path: Path) -> None:
        """Begin the list."""
        super().__init__(path, ("[", "]"))

    def rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add objects."""
        for row in rows:
            self.item(json.dumps(row, ensure_ascii=False))


class JsonObject(JsonItems):
    """A JSON object, its entries one a line."""

    def __init__(self, path: Path) -> None:
        """Begin the object."""
        super().__init__(path, ("{", "}"))

    def rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add entries.

        Args:
            rows: Each a mapping of new keys to their values.
        """
        for row in rows:
            for key, value in row.items():
                self.item(f"{json.dumps(key)}: {json.dumps(value)}")
