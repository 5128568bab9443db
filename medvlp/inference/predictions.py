"""Writes predictions to a file batch by batch, so that an interrupted run keeps its batches and can continue."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Least number of rows in a row group of parquet; only the last one may have fewer.
GROUP = 1024


class Predictions:
    """A table in a file to which rows are appended.

    The file is an Arrow stream: its complete batches stay readable however the process ends.

    Args:
        path: The file. Its rows are kept if it has the same columns and the same `made_by`.
        schema: The columns.
        made_by: Everything, other than the inputs, that determines the rows.

    Attributes:
        rows: Number of rows.
    """

    def __init__(self, path: Path, schema: pa.Schema, made_by: Any) -> None:
        self.path, self.rows = path, 0
        self.schema = schema.with_metadata({"made_by": json.dumps(made_by)})
        length = self._usable() if path.is_file() else 0
        self._file = path.open("r+b" if length else "wb")
        if length:
            self._file.seek(self._file.truncate(length))
        else:
            self.clear()

    def clear(self) -> None:
        """Drop all rows."""
        self.rows = 0
        self._file.seek(self._file.truncate(0))
        self._write(self.schema.serialize())

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._write(batch.serialize())
        self.rows += batch.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows."""
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream

    def finish(self, out: Path, metadata: dict[str, str]) -> None:
        """Convert the table to the format of a suffix in FORMATS, and delete the stream; `out` is written atomically.

        Args:
            out: The file to write.
            metadata: Metadata that a parquet file stores with the rows.
        """
        unfinished = out.with_name(f"{out.name}.tmp")
        FORMATS[out.suffix](self.batches(), self.schema.with_metadata(metadata), unfinished)
        os.replace(unfinished, out)
        self._file.close()
        self.path.unlink()

    def _write(self, message: pa.Buffer) -> None:
        self._file.write(message)
        self._file.flush()

    def _usable(self) -> int:
        """Return the length in bytes of the part of the file to keep, and count its rows."""
        length = 0
        try:
            with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
                if stream.schema.equals(self.schema, check_metadata=True):
                    length = file.tell()
                    for batch in stream:
                        self.rows += batch.num_rows
                        length = file.tell()
        except (pa.ArrowInvalid, OSError):
            pass  # an incomplete batch: the process ended while it wrote
        return length


def write_csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write a table with a header; null values are empty fields."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(schema.names)
        for batch in batches:
            writer.writerows([row[name] for name in schema.names] for row in map(_plain, batch.to_pylist()))


def write_jsonl(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write one JSON object per line."""
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            file.writelines(json.dumps(_plain(row)) + "\n" for row in batch.to_pylist())


def write_json(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write one JSON list with one object per line."""
    between = "[\n"
    with path.open("w", encoding="utf-8") as file:
        for row in (row for batch in batches for row in batch.to_pylist()):
            file.write(between + json.dumps(_plain(row)))
            between = ",\n"
        file.write("\n]\n")


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write row groups of at least GROUP rows; only the last one may have fewer."""
    with pq.ParquetWriter(path, schema) as writer:
        group: list[pa.RecordBatch] = []
        for batch in batches:
            group.append(batch.replace_schema_metadata(schema.metadata))
            if sum(map(len, group)) >= GROUP:
                writer.write_table(pa.Table.from_batches(group, schema))
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group, schema))


FORMATS: dict[str, Callable[[Iterable[pa.RecordBatch], pa.Schema, Path], None]] = {
    ".csv": write_csv,
    ".json": write_json,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}
"""Functions that write a table, by the suffix of the file."""


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row for text formats: floats have six significant digits, and NaN and infinity become None."""
    return {name: _rounded(value) for name, value in row.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
