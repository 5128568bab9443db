"""Readers of csv tables and of lists, which may have broken rows."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from medvlp.errors import UserError
from medvlp.prepare.files import missing


def decode(data: bytes) -> tuple[str, bool]:
    """Return a text and whether it was UTF-8.

    Hospital exports that are not UTF-8 are Windows-1252, which keeps degree signs, curly quotes and dashes. The few
    bytes that it does not define become replacement characters.
    """
    try:
        return data.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), False


def find_table(folder: Path, name: str, suffix: str = ".csv") -> Path | None:
    """Return the path of a table in a folder, packed or not, or None; see `require_table`."""
    paths = (folder / f"{name}{suffix}", folder / f"{name}{suffix}.gz")
    return next((path for path in paths if path.is_file()), None)


def require_table(root: Path, name: str, how: str, suffix: str = ".csv", argument: str = "root") -> Path:
    """Return the path of a table in a folder on the command line; see `find_table`.

    Args:
        root: The folder.
        name: File name without suffix.
        how: How to get the data, for the error.
        suffix: Suffix of the file; .gz may follow it.
        argument: Name of the command-line option, for the error.

    Raises:
        NotFoundError: If the table is missing.
    """
    path = find_table(root, name, suffix)
    if path is None:
        raise missing(root, f"neither {name}{suffix} nor {name}{suffix}.gz", how, argument)
    return path


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a table.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        with _open(path) as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (EOFError, zlib.error, OSError, csv.Error) as error:
        raise UserError(f"'{path}' cannot be read ({error}). Download it again.") from error


def read_table(
    path: Path, columns: Sequence[str], skip: Callable[[str, str], None]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the place of each row, for messages, and its fields of some columns.

    Args:
        path: A .csv or .csv.gz file.
        columns: Names of the columns, in the order of the result.
        skip: Called for each row with a wrong number of fields.

    Raises:
        UserError: If a column is missing or the file cannot be read to its end.
    """
    names = column_names(path)
    for column in columns:
        if column not in names:
            raise UserError(f"'{path}' has no column '{column}'; its columns are {', '.join(names) or 'none'}.")
    positions = [names.index(column) for column in columns]
    try:
        with _open(path) as file:
            reader = csv.reader(file)
            next(reader)
            while True:
                first = reader.line_num + 1
                problem = ""
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    row, problem = [], str(error)
                if row and len(row) != len(names):
                    problem = f"{len(row)} fields, not {len(names)}"
                # More than one line: an open quote has swallowed the lines behind it.
                place = f"{path.name}:{first}" + (f"-{reader.line_num}" if reader.line_num > first else "")
                if problem:
                    skip(place, f"unreadable row: {problem}")
                elif row:
                    yield place, tuple(_text(row[position]) for position in positions)
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"'{path}' cannot be read to its end ({error}). Download it again.") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the place of each non-empty line, for messages, and its text.

    Args:
        path: A text file, or one that ends in .gz.

    Raises:
        UserError: If the file cannot be read to its end.
    """
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if text := _text(line.strip()):
                    yield f"{path.name}:{number}", text
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"'{path}' cannot be read to its end ({error}). Download it again.") from error


def _open(path: Path) -> io.TextIOWrapper:
    binary = cast(IO[bytes], gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb"))  # noqa: SIM115
    # With escaped bytes each field can be decoded alone: a bad byte must not change the other fields.
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _text(field: str) -> str:
    return field if field.isascii() else decode(field.encode("utf-8", "surrogateescape"))[0]
