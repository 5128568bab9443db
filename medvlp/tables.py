"""Tables of text as people export them: whatever separates their fields, encodes their characters and packs them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from medvlp.errors import UserError

# Called with the place of a row, such as t.csv:3, and the reason why it is left out.
SkipRow = Callable[[str, str], None]

SEPARATORS = {",": "a comma", ";": ";", "\t": "a tab", "|": "|"}
# The first bytes of files that are no text, and what to do with them.
WORKBOOK = "is a workbook: save its sheet as 'CSV UTF-8 (Comma delimited)' and give that file"
PACKED = "is packed: unpack it and give the table in it"
FORMATS = {
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"%PDF": "is a PDF: a table of text is needed",
    b"BZh": PACKED,
    b"\xfd7zXZ": PACKED,
    b"\x28\xb5\x2f\xfd": PACKED,
    b"7z\xbc\xaf": PACKED,
    b"Rar!": PACKED,
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file with 'git lfs pull'",
}
ZIP, GZIP, PARQUET = b"PK\x03\x04", b"\x1f\x8b", b"PAR1"
HTML = re.compile(rb"\s*<(?:!doctype|html|table|head|\?xml)", re.IGNORECASE)
# First line of a csv file of Excel that names the separator.
NAMED = re.compile(r"sep=(.)$", re.IGNORECASE)
# Excel's way to keep the zeros of a number.
TEXT = re.compile(r'="([^"]*)"')
HEAD = 1 << 16
DAMAGED = (EOFError, zlib.error, OSError)


def decode(data: bytes) -> tuple[str, bool]:
    """Return a text and whether it was UTF-8.

    Hospital exports that are not UTF-8 are Windows-1252, which keeps degree signs, curly quotes and dashes. The few
    bytes that it does not define become replacement characters.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), False
    try:
        return data.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace"), False


def column_names(path: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the columns of a table, without the blanks around them.

    Args:
        path: A table; see `read_table`.
        wanted: Columns that tell which of several characters is the separator.

    Raises:
        UserError: If the file cannot be read.
    """
    kind = _kind(path)
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(path).names)
        except pa.ArrowInvalid as error:
            raise UserError(f"'{path}' is no csv, csv.gz or parquet table: {error}.") from error
    try:
        with _open(path) as file:
            if kind == "jsonl":
                return list(next(_objects(path, file, lambda *_: None), ("", {}))[1])
            return _header(file, wanted)[0]
    except (*DAMAGED, csv.Error) as error:
        raise UserError(f"'{path}' cannot be read ({error}). Download it again.") from error


def find_column(path: Path, names: Sequence[str], column: str) -> int | None:
    """Return the position of a column, None if there is none.

    Its name may be written in other case, or with blanks for underscores.

    Args:
        path: The table, for the error.
        names: Names of its columns.
        column: Name of the wanted one.

    Raises:
        UserError: If there are several.
    """
    positions = [i for i, name in enumerate(names) if name == column]
    positions = positions or [i for i, name in enumerate(names) if _folded(name) == _folded(column)]
    if len(positions) > 1:
        twice = ", ".join(f"'{names[i]}' ({i + 1})" for i in positions)
        raise UserError(f"'{path}' has the column '{column}' {len(positions)} times: {twice}. Rename all but one.")
    return positions[0] if positions else None


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
        path: A csv or tsv file, plain or in gzip, a parquet file, or JSON lines.
        columns: Names of the columns, in the order of the result; see `find_column`.
        skip: Called for each row with a wrong number of fields.
        tell: Called with each fact that the user should know, such as another separator; prints it if not given.

    Raises:
        UserError: If a column is missing or there twice, or the file cannot be read to its end.
    """
    tell = tell or _print_once
    kind = _kind(path)
    if kind == "parquet":
        yield from _parquet_rows(path, columns)
        return
    try:
        with _open(path) as file:
            if kind == "jsonl":
                rows = _json_rows(path, file, columns, skip)
            else:
                rows = _csv_rows(path, file, columns, skip, tell)
            yield from rows
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
    _kind(path)
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if text := _text(line.strip()):
                    yield f"{path.name}:{number}", text
    except DAMAGED as error:
        raise UserError(f"'{path}' cannot be read to its end ({error}). Download it again.") from error


def _positions(path: Path, names: Sequence[str], columns: Sequence[str]) -> list[int]:
    positions = []
    for column in columns:
        position = find_column(path, names, column)
        if position is None:
            known = ", ".join(names) or "none: the file is empty"
            raise UserError(f"'{path}' has no column '{column}'; its columns are {known}.")
        positions.append(position)
    return positions


def _csv_rows(
    path: Path, file: io.TextIOWrapper, columns: Sequence[str], skip: SkipRow, tell: Callable[[str], None]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    names, separator, lines = _header(file, columns)
    positions = _positions(path, names, columns)
    if separator != "," and path.suffixes[-1:] != [".tsv"]:
        tell(f"{path.name}: the separator is {SEPARATORS.get(separator, separator)}.")
    counter = _Counter(file)
    reader = csv.reader(counter, delimiter=separator, skipinitialspace=True)
    for _ in range(lines):
        next(reader)
    foreign = 0
    while True:
        first = reader.line_num + 1
        problem = ""
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            row, problem = [], str(error)
        if len(row) > len(names) and not any(map(str.strip, row[len(names) :])):
            del row[len(names) :]
        if row and len(row) != len(names):
            problem = f"{len(row)} fields, not {len(names)}"
            if not any(map(str.strip, row)):
                continue
        elif row and counter.ended:
            # The reader has looked for the quote that closes the last field.
            problem = "a quote is not closed"
        # More than one line: an open quote has swallowed the lines behind it.
        place = f"{path.name}:{first}" + (f"-{reader.line_num}" if reader.line_num > first else "")
        if problem:
            skip(place, f"unreadable row: {problem}")
        elif any(map(str.strip, row)):
            fields = [row[position] for position in positions]
            foreign += not all(map(_is_text, fields))
            yield place, tuple(map(_text, fields))
    if foreign:
        tell(f"{path.name}: {foreign} row{'s are' if foreign > 1 else ' is'} not UTF-8, read as Windows-1252.")
    if counter.nuls:
        tell(f"{path.name}: {counter.nuls} NUL characters are left out.")


class _Counter:
    """The lines of a file without NUL characters, which are counted; knows whether its end was read."""

    def __init__(self, file: Iterable[str]) -> None:
        self.lines = iter(file)
        self.nuls = 0
        self.ended = False

    def __iter__(self) -> _Counter:
        return self

    def __next__(self) -> str:
        line = next(self.lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        if "\0" in line:
            self.nuls += line.count("\0")
            line = line.replace("\0", "")
        return line


def _header(file: io.TextIOWrapper, wanted: Sequence[str]) -> tuple[list[str], str, int]:
    """Return the names of the columns, the separator, and the number of rows before the first one; rewinds the file."""
    head = file.read(HEAD).replace("\0", "")
    file.seek(0)
    lines = io.StringIO(head, newline="").readlines()
    named = NAMED.match(lines[0].strip("\ufeff\r\n")) if lines else None
    before = 1 if named else 0
    # A blank line may stand before the header.
    while before < len(lines) and not lines[before].strip():
        before += 1
    candidates = [named[1]] if named else list(SEPARATORS)
    headers = {separator: _names(lines[before:], separator) for separator in candidates}

    def fitness(separator: str) -> tuple[int, int]:
        folded = {*map(_folded, headers[separator])}
        return sum(_folded(name) in folded for name in wanted), len(headers[separator])

    separator = max(candidates, key=fitness)
    return headers[separator], separator, before + 1


def _names(lines: list[str], separator: str) -> list[str]:
    row = next(csv.reader(lines, delimiter=separator, skipinitialspace=True), [])
    return [_text(name).strip(" \t\r\n\u00a0\ufeff\u200b") for name in row]


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _kind(path: Path) -> str:
    """Return csv, jsonl or parquet.

    Raises:
        UserError: If the file is no table of text; the message says what to do.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read ({error.strerror}).") from error
    for magic, advice in FORMATS.items():
        if head.startswith(magic):
            raise UserError(f"'{path}' {advice}.")
    if head.startswith(ZIP):
        is_workbook = path.suffix.lower() in (".xlsx", ".xlsm", ".ods") or b"[Content_Types]" in head or b"xl/" in head
        raise UserError(f"'{path}' {WORKBOOK if is_workbook else PACKED}.")
    if HTML.match(head):
        raise UserError(
            f"'{path}' is a web page, not a table. Perhaps the download asked for a login: download it again."
        )
    if head.startswith(PARQUET) or path.suffix == ".parquet":
        return "parquet"
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if head.lstrip().startswith(b"[{") or (head.lstrip().startswith(b"[") and ".json" in suffixes):
        raise UserError(f"'{path}' is a JSON list: write one object a line (JSON lines) or a csv table.")
    return "jsonl" if suffixes & {".jsonl", ".ndjson"} or head.lstrip().startswith(b'{"') else "csv"


def _open(path: Path) -> io.TextIOWrapper:
    with open(path, "rb") as file:
        is_packed = file.read(2) == GZIP or path.suffix == ".gz"
    binary = cast(IO[bytes], gzip.open(path, "rb") if is_packed else open(path, "rb"))  # noqa: SIM115
    head = binary.read(4096)
    binary.seek(0)
    # With escaped bytes each field can be decoded alone: a bad byte must not change the other fields.
    encoding = _encoding(head)
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    return io.TextIOWrapper(binary, encoding=encoding, errors=errors, newline="")


def _encoding(head: bytes) -> str:
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # Latin letters in UTF-16 without its mark: every other byte is zero.
    pairs = max(len(head) // 2, 1)
    if head[1::2].count(0) > 0.7 * pairs:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > 0.7 * pairs else "utf-8-sig"


def _objects(path: Path, file: Iterable[str], skip: SkipRow) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(_text(line))
        except ValueError as error:
            row = error
        if isinstance(row, dict):
            yield f"{path.name}:{number}", row
        else:
            skip(f"{path.name}:{number}", "unreadable row: no JSON object")


def _json_rows(
    path: Path, file: Iterable[str], columns: Sequence[str], skip: SkipRow
) -> Iterator[tuple[str, tuple[str, ...]]]:
    keys: list[str] = []
    for place, row in _objects(path, file, skip):
        if not keys:
            names = list(row)
            keys = [names[position] for position in _positions(path, names, columns)]
        values = [row.get(key) for key in keys]
        if any(isinstance(value, list | dict) for value in values):
            skip(place, "unreadable row: a list or an object, not a text")
        else:
            yield place, tuple("" if value is None else str(value) for value in values)


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [names[position] for position in _positions(path, names, columns)]
            number = 0
            for batch in file.iter_batches(columns=list(dict.fromkeys(wanted))):
                fields = [pc.cast(batch[name], pa.string()).to_pylist() for name in wanted]
                for row in zip(*fields, strict=True):
                    number += 1
                    yield f"{path.name}:{number}", tuple(value or "" for value in row)
    except pa.ArrowNotImplementedError as error:
        raise UserError(f"'{path}': a column of {', '.join(columns)} holds no text: {error}.") from error
    except pa.ArrowInvalid as error:
        raise UserError(f"'{path}' is no csv, csv.gz or parquet table: {error}.") from error


def _is_text(field: str) -> bool:
    return field.isascii() or not any("\udc80" <= character <= "\udcff" for character in field)


def _text(field: str) -> str:
    if field.startswith('="') and (match := TEXT.fullmatch(field)):
        return match[1]
    return field if field.isascii() else decode(field.encode("utf-8", "surrogateescape"))[0]


@lru_cache(maxsize=256)
def _print_once(note: str) -> None:
    # Some tables are read twice.
    print(note, file=sys.stderr)
