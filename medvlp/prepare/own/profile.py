"""What the columns of a table hold: numbers of filled fields, examples, and all values of those that have few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.errors import UserError
from medvlp.prepare.own.image_files import ImageFiles
from medvlp.prepare.words import is_blank, key
from medvlp.tables import column_names, read_records

# Number of rows by whose values columns are told apart.
SAMPLE = 1000
# Most values that are counted of a column, and longest of them.
MOST, LONGEST = 64, 60


@dataclass
class Column:
    """The values of a column.

    Attributes:
        name: Its name.
        filled: Number of fields with a value.
        values: Number of fields by value, if there are few values; empty if there are many or long ones.
        many: Whether there are many or long ones.
        examples: Its first three values.
    """

    name: str
    filled: int = 0
    values: Counter[str] = field(default_factory=Counter)
    many: bool = False
    examples: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count a value."""
        self.filled += 1
        if len(self.examples) < 3 and text not in self.examples:
            self.examples.append(text)
        if not self.many:
            self.values[text] += 1
            if len(self.values) > MOST or len(text) > LONGEST:
                self.many = True
                self.values.clear()


@dataclass
class Profile:
    """The columns of a table and its first rows.

    Attributes:
        path: The table.
        columns: Its columns by name.
        rows: Number of rows that can be read.
        sample: The first of them.
        faults: Place and reason of each row that cannot be read, the first three.
    """

    path: Path
    columns: dict[str, Column] = field(default_factory=dict)
    rows: int = 0
    sample: list[dict[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def filled(self, name: str) -> list[str]:
        """Return the values of a column in the first rows."""
        return [value for row in self.sample if (value := row.get(name, ""))]


def cleaned(row: dict[str, str]) -> dict[str, str]:
    """Return the fields of a row without blanks around them; empty for a word such as NaN."""
    # Half of a character, as JSON may hold it, cannot be written.
    texts = ((_whole(name), _whole(text).strip()) for name, text in row.items() if name.strip())
    return {name: "" if is_blank(text) else text for name, text in texts}


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def rows_of(
    path: Path, skip: Callable[[str, str], None], tell: Callable[[str], None]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the cleaned fields of each row of a table; see `medvlp.tables.read_records`."""
    for place, row in read_records(path, skip, tell):
        yield place, cleaned(row)


def read_profile(path: Path, files: ImageFiles, tell: Callable[[str], None]) -> Profile:
    """Return what the columns of a table hold.

    Args:
        path: The table.
        files: The images, by which a table without a header line is known.
        tell: Called with what the user should know of the file.

    Raises:
        UserError: If it has no header line, no rows or no row that can be read.
    """
    profile = Profile(path, {_whole(name): Column(_whole(name)) for name in column_names(path) if name.strip()})
    _check_header(profile, files)

    def skip(place: str, reason: str) -> None:
        if len(profile.faults) < 3:
            profile.faults.append(f"{place}: {reason}")

    for _, row in rows_of(path, skip, tell):
        profile.rows += 1
        if len(profile.sample) < SAMPLE:
            profile.sample.append(row)
        for name, text in row.items():
            if text:
                profile.columns.setdefault(name, Column(name)).add(text)
    # Objects are columns of their own, by their fields.
    for name in [name for name in profile.columns if any(other.startswith(f"{name}.") for other in profile.columns)]:
        if not profile.columns[name].filled:
            del profile.columns[name]
    if not profile.rows:
        if profile.faults:
            raise UserError(
                f"--table='{path}': no row can be read, the first at {profile.faults[0]}. A field that holds the "
                "separator, a quote or a line break must stand in quotes."
            )
        names = ", ".join(profile.columns) or "none: the file is empty"
        raise UserError(f"--table='{path}' has no rows; its columns are {names}.")
    return profile


def _check_header(profile: Profile, files: ImageFiles) -> None:
    for name in profile.columns:
        match = files.find(name) if len(name) > 2 and key(name) else None
        if match and match.path and ("." in name or "/" in name):
            raise no_header(profile, name)


def no_header(profile: Profile, name: str) -> UserError:
    """Return the error for a table whose first line is a row.

    Args:
        profile: The table.
        name: The field of this line that is an image.
    """
    return UserError(
        f"--table='{profile.path}' has no header line: its first line holds '{name}', which is an image in --images. "
        "Write the names of the columns above it, such as image,report."
    )
