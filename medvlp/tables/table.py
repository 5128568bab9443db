"""Tables of text as people export them: whatever separates their fields, encodes their characters and packs them."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from medvlp.errors import UserError
from medvlp.tables.columns import positions_of
from medvlp.tables.files import DAMAGED, kind_of, open_table
from medvlp.tables.parquet import parquet_names, parquet_texts
from medvlp.tables.records import raw_rows
from medvlp.tables.separated import SkipRow, read_header, separated_rows
from medvlp.tables.text import field_text


def column_names(path: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the columns of a table, without the blanks around them.

    Args:
        path: A table; see `read_table`.
        wanted: Columns that tell which of several characters is the separator.

    Raises:
        UserError: If the file cannot be read.
    """
    kind = kind_of(path)
    if kind == "parquet":
        return parquet_names(path)
    if kind != "csv":
        return list(next(raw_rows(path, lambda *_: None, lambda _: None), ("", {}))[1])
    try:
        with open_table(path) as file:
            return read_header(file, wanted)[0]
    except (*DAMAGED, csv.Error) as error:
        raise UserError(f"'{path}' cannot be read ({error}). Download it again.") from error


def read_all(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the fields of all rows of some columns, and print how many rows cannot be read; see `read_table`.

    Raises:
        UserError: If no row can be read, or as `read_table`.
    """
    left_out: list[str] = []
    rows = [fields for _, fields in read_table(path, columns, lambda place, why: left_out.append(f"{place}: {why}"))]
    advice = "A field that holds the separator, a quote or a line break must stand in quotes."
    if left_out and not rows:
        raise UserError(f"'{path}': none of its {len(left_out)} rows can be read, the first at {left_out[0]}. {advice}")
    if left_out:
        print(f"{path.name}: {len(left_out)} rows are left out, the first at {left_out[0]}. {advice}", file=sys.stderr)
    elif not rows:
        print(f"{path.name} has no rows.", file=sys.stderr)
    return rows


def read_table(
    path: Path, columns: Sequence[str], skip: SkipRow, tell: Callable[[str], None] | None = None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the place of each row, for messages, and its fields of some columns, as text.

    The separator is a comma, a semicolon, a tab or a bar. The encoding is UTF-8, UTF-16 or, field by field,
    Windows-1252. Empty rows are left out.

    Args:
        path: A csv or tsv file, JSON lines or a JSON list of objects, each plain or in gzip, a parquet file, or a
            workbook of Excel.
        columns: Names of the columns, in the order of the result; see `find_column`.
        skip: Called for each row with a wrong number of fields.
        tell: Called with each fact that the user should know, such as another separator; prints it if not given.

    Raises:
        UserError: If a column is missing or there twice, or the file cannot be read to its end.
    """
    tell = tell or _print_once
    kind = kind_of(path)
    if kind == "parquet":
        yield from parquet_texts(path, columns)
        return
    if kind != "csv":
        yield from _object_rows(path, raw_rows(path, skip, tell), columns, skip)
        return
    try:
        with open_table(path) as file:
            yield from separated_rows(path, file, columns, skip, tell)
            if not file.encoding.startswith("utf-8"):
                tell(f"{path.name} is read as {file.encoding.upper()}.")
    except DAMAGED as error:
        raise UserError(f"'{path}' cannot be read to its end ({error}). Download it again.") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the place of each non-empty line, for messages, and its text.

    Args:
        path: A text file, plain or in gzip.

    Raises:
        UserError: If the file cannot be read to its end.
    """
    kind_of(path)
    try:
        with open_table(path) as file:
            for number, line in enumerate(file, 1):
                if text := field_text(line.strip()):
                    yield f"{path.name}:{number}", text
    except DAMAGED as error:
        raise UserError(f"'{path}' cannot be read to its end ({error}). Download it again.") from error


def _object_rows(
    path: Path, rows: Iterable[tuple[str, Mapping[str, object]]], columns: Sequence[str], skip: SkipRow
) -> Iterator[tuple[str, tuple[str, ...]]]:
    keys: list[str] = []
    for place, row in rows:
        if not keys:
            names = list(row)
            keys = [names[position] for position in positions_of(path, names, columns)]
        values = [row.get(key) for key in keys]
        if any(isinstance(value, list | dict) for value in values):
            skip(place, "unreadable row: a list or an object, not a text")
        else:
            yield place, tuple("" if value is None else str(value) for value in values)


@lru_cache(maxsize=256)
def _print_once(note: str) -> None:
    # Some tables are read twice.
    print(note, file=sys.stderr)
