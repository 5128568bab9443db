"""Writers of files that have the same bytes every time, and are never incomplete."""

from __future__ import annotations

import csv
import gzip
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self


def write(path: Path, data: bytes) -> None:
    """Write a file under another name first, so that an interruption leaves no incomplete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


class Stream:
    """A text file that gets its name when it is closed; gzip-compressed if its name ends in .gz."""

    def __init__(self, path: Path) -> None:
        """Begin the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._raw = self._part.open("wb")
        # Without name and time the same rows give the same bytes.
        gz = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, mtime=0) if path.suffix == ".gz" else self._raw
        self._out = io.TextIOWrapper(gz, encoding="utf-8", newline="")

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; without an error it gets its name."""
        self._out.close()
        self._raw.close()
        if kind is None:
            os.replace(self._part, self._path)

    def line(self, text: str) -> None:
        """Add a line."""
        self._out.write(text + "\n")


class Listing(Stream, ABC):
    """A file that grows by rows."""

    @abstractmethod
    def rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows."""


class Table(Listing):
    """A csv file, or a list without a header."""

    def __init__(self, path: Path, columns: Sequence[str], header: bool = True, delimiter: str = ",") -> None:
        """Begin the table, with its header if it has one."""
        super().__init__(path)
        self._csv = csv.DictWriter(self._out, columns, delimiter=delimiter, lineterminator="\n")
        if header:
            self._csv.writeheader()

    def rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows."""
        self._csv.writerows(rows)
