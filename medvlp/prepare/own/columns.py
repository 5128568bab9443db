"""The columns of a table: what options say of them, what was understood, and the errors about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.errors import UserError, suggestion
from medvlp.prepare.own.drawn import Corners
from medvlp.prepare.own.image_files import ImageFiles
from medvlp.prepare.own.labels import LabelColumns, quoted
from medvlp.prepare.own.profile import Profile
from medvlp.prepare.words import key

NONE = "none"
# A long number as a spreadsheet shows it.
ROUNDED = re.compile(r"\d[.,]\d+E\+\d{2}", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """The options about columns: a name, `none`, or nothing for a guess.

    Attributes:
        columns: By meaning, one of `medvlp.prepare.own.names.MEANINGS`.
        labels: Columns, separated by commas.
        box_label: Column of the names of the boxes.
        box_format: xywh, xyxy or nothing.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    labels: str = ""
    box_label: str = ""
    box_format: str = ""


@dataclass
class Understood:
    """What a table holds.

    Attributes:
        columns: Column by meaning.
        how: How each of them was found.
        labels: Its label columns.
        corners: Its boxes; None without them.
        unused: Why each other column is not used.
    """

    columns: dict[str, str] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    labels: LabelColumns = field(default_factory=LabelColumns)
    corners: Corners | None = None
    unused: dict[str, str] = field(default_factory=dict)

    @property
    def used(self) -> set[str]:
        """Names of all columns with a meaning."""
        corners = (*self.corners.columns, self.corners.label) if self.corners else ()
        labels = (*self.labels.columns.values(), self.labels.listed)
        return {name for name in (*self.columns.values(), *labels, *corners) if name}


def find_name(profile: Profile, option: str, name: str) -> str:
    """Return the column that an option names, in any case.

    Raises:
        UserError: If there is none.
    """
    columns = profile.columns
    if name in columns:
        return name
    same = [column for column in columns if key(column) == key(name)]
    if len(same) != 1:
        raise UserError(
            f"'{profile.path}' has no column '{name}'; its columns are {', '.join(columns)}. --{option} names one of "
            f"them.{suggestion(name, columns)}"
        )
    return same[0]


def rounded_ids(profile: Profile, columns: Mapping[str, str]) -> list[str]:
    """Return a problem for each column of ids of which a spreadsheet has kept the first digits: several are then one.

    Args:
        profile: The table.
        columns: Column by meaning.
    """
    problems = []
    for meaning in ("image", "patient", "study", "accession"):
        name = columns.get(meaning, "")
        if rounded := [value for value in profile.filled(name) if ROUNDED.fullmatch(value)]:
            problems.append(
                f"'{name}', the {meaning}, has ids that a spreadsheet has rounded, such as '{rounded[0]}': export the "
                f"column as text, or leave it out, --{meaning} none."
            )
    return problems


def no_image_column(path: Path, profile: Profile, files: ImageFiles) -> UserError:
    """Return the error for a table in which no column names images."""
    shown = "; ".join(f"'{c.name}' ({quoted(c.examples[:2])})" for c in [*profile.columns.values()][:12])
    first = ", ".join(f"'{name}'" for name in [*files][:2])
    alone = " Is it separated by a comma, a semicolon, a tab or a bar?" if len(profile.columns) == 1 else ""
    return UserError(
        f"--table='{path}' has no column that names images: its columns are {shown}, and --images holds {first}."
        f"{alone} Name the column, --image COLUMN, or give other --images."
    )
