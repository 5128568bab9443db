"""The rows of a workbook of Excel, 2007 and later: those of its fullest sheet."""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from medvlp.errors import UserError

# Number of rows in which the names of the columns are looked for, and of those by which sheets are compared.
TITLES, COMPARED = 20, 1000
# Format of numbers that are shown with zeros in front, and are names: 007.
ZEROS = re.compile("0{2,}")
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
        with closing(book):
            yield from _sheet_rows(path, book, tell)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"'{path}' cannot be read as a workbook ({error}). Save it again, or as csv.") from error


def _sheet_rows(path: Path, book: Any, tell: Callable[[str], None]) -> Iterator[tuple[str, dict[str, object]]]:
    for sheet in _fullest_first(book.worksheets):
        rows = enumerate(sheet.iter_rows(), 1)
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
        nameless: set[str] = set()
        for number, row in chain(first[start + 1 :], rows):
            if any(map(_is_filled, row)):
                fields = zip(names, row, strict=False)
                yield f"{path.name}:{number}", {name: _plain(cell) for name, cell in fields if name}
                unnamed = (cell for place, cell in enumerate(row) if place >= len(names) or not names[place])
                nameless.update(cell.column_letter for cell in unnamed if _is_filled(cell))
        if nameless:
            columns = ", ".join(sorted(nameless, key=lambda letters: (len(letters), letters)))
            tell(
                f"{path.name}: not read, for they have no name in row {first[start][0]}: columns {columns}. Of merged "
                "names each column needs one of its own."
            )
        return


def _fullest_first(sheets: list[Any]) -> list[Any]:
    """Return sheets in the order of their filled cells: before the table a sheet may explain it."""
    for sheet in sheets:
        # Some programs write the size of a sheet wrongly.
        sheet.reset_dimensions()
    if len(sheets) == 1:
        return sheets
    # Hidden sheets hold lists for the cells of others.
    return sorted(sheets, key=lambda sheet: (sheet.sheet_state == "visible", _cells(sheet)), reverse=True)


def _cells(sheet: Any) -> int:
    return sum(_is_filled(cell) for row in islice(sheet.iter_rows(), COMPARED) for cell in row)


def _is_filled(cell: Any) -> bool:
    return cell.value is not None and str(cell.value).strip() != ""


def _plain(cell: Any) -> object:
    """Return the value of a cell as a csv file would have it: `1` for 1.0, `007` as shown, `2020-01-31` for a date."""
    value: object = cell.value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and ZEROS.fullmatch(cell.number_format):
        return str(value).zfill(len(cell.number_format))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value
