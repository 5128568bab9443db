"""Columns of a table, found by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvlp.errors import UserError


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
    positions = positions or [i for i, name in enumerate(names) if folded(name) == folded(column)]
    if len(positions) > 1:
        twice = ", ".join(f"'{names[i]}' ({i + 1})" for i in positions)
        raise UserError(f"'{path}' has the column '{column}' {len(positions)} times: {twice}. Rename all but one.")
    return positions[0] if positions else None


def positions_of(path: Path, names: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return the positions of columns; see `find_column`.

    Raises:
        UserError: If one is missing or there twice.
    """
    positions = []
    for column in columns:
        position = find_column(path, names, column)
        if position is None:
            known = ", ".join(names) or "none: the file is empty"
            raise UserError(f"'{path}' has no column '{column}'; its columns are {known}.")
        positions.append(position)
    return positions


def folded(name: str) -> str:
    """Return a name as it is compared: in lower case, with single blanks for blanks and underscores."""
    return " ".join(name.replace("_", " ").casefold().split())
