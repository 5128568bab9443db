"""Rows of separated text: comma, semicolon, tab or bar, with quotes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from medvlp.tables.columns import folded, positions_of
from medvlp.tables.text import field_text, is_utf8

# Called with the place of a row, such as t.csv:3, and the reason why it is left out.
SkipRow = Callable[[str, str], None]

SEPARATORS = {",": "a comma", ";": ";", "\t": "a tab", "|": "|"}
# First line of a csv file of Excel that names the separator.
NAMED = re.compile(r"sep=(.)$", re.IGNORECASE)
HEAD = 1 << 16


def separated_rows(
    path: Path, file: io.TextIOWrapper, columns: Sequence[str], skip: SkipRow, tell: Callable[[str], None]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the place and the fields of each row of a csv or tsv file; see `medvlp.tables.read_table`."""
    names, separator, lines = read_header(file, columns)
    positions = positions_of(path, names, columns)
    if separator != "," and path.suffixes[-1:] != [".tsv"]:
        tell(f"{path.name}: the separator is {SEPARATORS.get(separator, separator)}.")
    counter = _Counter(file)
    reader = csv.reader(counter, delimiter=separator, skipinitialspace=True)
    for _ in range(lines):
        next(reader, None)
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
            foreign += not all(map(is_utf8, fields))
            yield place, tuple(map(field_text, fields))
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


def read_header(file: io.TextIOWrapper, wanted: Sequence[str]) -> tuple[list[str], str, int]:
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
        names = {*map(folded, headers[separator])}
        return sum(folded(name) in names for name in wanted), len(headers[separator])

    separator = max(candidates, key=fitness)
    names = headers[separator]
    if len(names) > 2 and names[0] and not any(names[1:]):
        # A spreadsheet writes the empty cells beside a title, too.
        for start in range(before + 1, len(lines)):
            below = _names(lines[start:], separator)
            if sum(map(bool, below)) > 1:
                return below, separator, start + 1
    return names, separator, before + 1


def _names(lines: list[str], separator: str) -> list[str]:
    row = next(csv.reader(lines, delimiter=separator, skipinitialspace=True), [])
    return [field_text(name).strip(" \t\r\n\u00a0\ufeff\u200b") for name in row]
