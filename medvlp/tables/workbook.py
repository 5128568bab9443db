"""The rows of a workbook of Excel, 2007 and later: those of its first sheet that has any."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from medvlp.errors import UserError

# Number of rows in which the names of the columns are looked for.
TITLES = 20
MISSING = (
    "is a workbook, and openpyxl, which reads it, is not installed: 'pip install openpyxl' (the extra 'tables', which "
    "'make install' includes), or save the sheet as 'CSV UTF-8 (Comma delimited)' and give that file"
)


def workbook_rows(path: Path, tell: Callable[[str], None]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the place of each row and its values by column. The first row that is not empty has the names.

    Args:
        path: A .xlsx or .xlsm file.
        tell: Called with what the user should know: sheets that are not read.

    Raises:
        UserError: If openpyxl is not installed, or the file cannot be read.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise UserError(f"'{path}' {MISSING}.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            book = load_workbook(path, read_only=True, data_only=True)
            yield from _sheet_rows(path, book, tell)
            book.close()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{path}' cannot be read as a workbook ({error}). Save it again, or as csv.") from error


def _sheet_rows(path: Path, book: Any, tell: Callable[[str], None]) -> Iterator[tuple[str, dict[str, object]]]:
    for sheet in book.worksheets:
        # Some programs write the size of a sheet wrongly.
        sheet.reset_dimensions()
        rows = enumerate(sheet.iter_rows(values_only=True), 1)
        first = [row for row in islice(rows, TITLES) if any(map(_is_filled, row[1]))]
        if not first:
            continue
        # Above the names of columns a title may stand, alone in its row.
        start = next((i for i, (_, row) in enumerate(first) if sum(map(_is_filled, row)) > 1), 0)
        header = first[start][1]
        if start:
            tell(f"{path.name}: the names of the columns are taken from row {first[start][0]}, below a title.")
        others = [other.title for other in book.worksheets if other is not sheet]
        if others:
            tell(f"{path.name}: the sheet '{sheet.title}' is read; not read: {', '.join(others)}.")
        names = [str(_plain(name)).strip() if _is_filled(name) else "" for name in header]
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            raise UserError(f"'{path}' has the column '{twice[0]}' {names.count(twice[0])} times. Rename all but one.")
        for number, row in chain(first[start + 1 :], rows):
            if any(_is_filled(value) for value in row):
                fields = zip(names, row, strict=False)
                yield f"{path.name}:{number}", {name: _plain(value) for name, value in fields if name}
        return


def _is_filled(value: object) -> bool:
    return value is not None and str(value).strip() != ""


def _plain(value: object) -> object:
    """Return the value of a cell as a csv file would have it: `1` for 1.0, `2020-01-31` for a date."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value
