"""Rows of a table by the names of its columns, whatever format holds it: the columns need not be known before."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.errors import UserError
from medvlp.tables.files import DAMAGED, kind_of, open_table
from medvlp.tables.parquet import parquet_rows
from medvlp.tables.separated import SkipRow, read_header, separated_rows
from medvlp.tables.text import field_text
from medvlp.tables.workbook import workbook_rows

Tell = Callable[[str], None]


def read_records(path: Path, skip: SkipRow, tell: Tell) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place of each row, for messages, and its fields by column, as text.

    Objects in a field become columns of their own, `report.findings`; lists stay, as JSON. Missing values are empty.
    Columns without a name and columns of bytes are left out. All but workbooks and JSON lists are read row by row.

    Args:
        path: A csv or tsv file, JSON lines or a JSON list of objects, each plain or in gzip, a parquet file, or a
            workbook of Excel.
        skip: Called for each row that cannot be read.
        tell: Called with each fact that the user should know, such as another separator.

    Raises:
        UserError: If a column is there twice, or the file cannot be read to its end.
    """
    for place, row in raw_rows(path, skip, tell):
        yield place, dict(flat(row))


def raw_rows(path: Path, skip: SkipRow, tell: Tell) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the place and the values of each row; see `read_records`."""
    kind = kind_of(path)
    if kind == "parquet":
        yield from parquet_rows(path, tell)
        return
    if kind == "xlsx":
        yield from workbook_rows(path, tell)
        return
    try:
        with open_table(path) as file:
            if kind == "csv":
                header = read_header(file, ())[0]
                names = [name for name in header if name]
                if nameless := [str(number) for number, name in enumerate(header, 1) if not name]:
                    tell(f"{path.name}: not read, for they have no name: columns {', '.join(nameless)}.")
                for place, fields in separated_rows(path, file, names, skip, tell):
                    yield place, dict(zip(names, fields, strict=True))
                if not file.encoding.startswith("utf-8"):
                    tell(f"{path.name} is read as {file.encoding.upper()}.")
            else:
                yield from objects(path, file, skip, is_list=kind == "json")
    except DAMAGED as error:
        raise UserError(f"'{path}' cannot be read to its end ({error}). Download it again.") from error


def objects(path: Path, file: Iterable[str], skip: SkipRow, is_list: bool) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the place of each JSON object and the object.

    Args:
        path: The file, for messages.
        file: Its lines.
        skip: Called for each line, or item of the list, that is no object.
        is_list: Whether the file is one list, not a line for each object.

    Raises:
        UserError: If the list cannot be read.
    """
    items: Iterator[tuple[int, Any]]
    if is_list:
        try:
            items = enumerate(json.loads(field_text("".join(file))), 1)
        except (ValueError, RecursionError) as error:
            raise UserError(f"'{path}' is no readable JSON list ({error}).") from error
    else:
        items = ((number, _parsed(line)) for number, line in enumerate(file, 1) if line.strip())
    for number, item in items:
        if isinstance(item, dict):
            yield f"{path.name}:{number}", item
        else:
            skip(f"{path.name}:{number}", "unreadable row: no JSON object")


def _parsed(line: str) -> Any:
    try:
        return json.loads(field_text(line))
    except (ValueError, RecursionError):
        return None


def flat(row: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names and texts of the fields of a row, those of objects in it included.

    Example:
        >>> dict(flat({"id": 7, "report": {"findings": "Clear.", "impression": None}, "boxes": [[1, 2]]}))
        {'id': '7', 'report.findings': 'Clear.', 'report.impression': '', 'boxes': '[[1, 2]]'}
    """
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", as_text(value)


def as_text(value: object) -> str:
    """Return a value as the text that a csv file would have."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # A whole column is of floats where one value is missing.
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
