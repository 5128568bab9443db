"""Tables of raw data sets: where they lie in a folder. `medvlp.tables` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvlp.prepare.files import missing
from medvlp.tables import column_names, decode, find_column, read_lines, read_table

__all__ = [
    "column_names",
    "decode",
    "find_table",
    "present_columns",
    "read_lines",
    "read_table",
    "require_table",
    "require_version",
]


def present_columns(table: Path, columns: Sequence[str]) -> list[str]:
    """Return those of the columns that a table has, for columns that some copies lack."""
    names = column_names(table)
    return [column for column in columns if find_column(table, names, column) is not None]


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
        advice = _near(root, f"{name}{suffix}") or how
        raise missing(root, f"neither {name}{suffix} nor {name}{suffix}.gz", advice, argument)
    return path


def require_version(root: Path, patterns: Sequence[str], how: str) -> Path:
    """Return the path of a file in --root, packed or not, whose name holds its version.

    Args:
        root: The folder.
        patterns: Its name with * for the version, then perhaps the same in other folders. The last of several counts.
        how: How to get the data, for the error.

    Raises:
        NotFoundError: If there is none.
    """
    tables = [path for pattern in patterns for suffix in ("", ".gz") for path in root.glob(f"{pattern}{suffix}")]
    if not tables:
        raise missing(root, f"no {patterns[0]}", how)
    return max(tables, key=lambda path: path.name)


def _near(root: Path, name: str) -> str:
    """Return what to do with a table that is packed or lies one folder deeper; empty if there is none."""
    if (root / f"{name}.zip").is_file():
        return f"Unpack '{name}.zip'."
    deeper = next((path for wanted in (name, f"{name}.gz") for path in sorted(root.glob(f"*/{wanted}"))), None)
    return f"It lies in '{deeper.parent}': give that folder." if deeper else ""
