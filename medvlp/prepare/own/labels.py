"""Labels in a table: columns of present, absent and uncertain, or one column with a list of labels."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medvlp.errors import LeftOutError, UserError
from medvlp.prepare.own.names import is_known_label, is_no_label, is_normal, spelling
from medvlp.prepare.own.profile import Column, Profile
from medvlp.prepare.words import label_value

SEPARATORS = re.compile(r"\s*[|;\n]\s*")
# Most labels in a column of lists, and in the words of one of them: a longer one is a text.
MOST_LABELS, LONGEST_LABEL = 300, 80


@dataclass(frozen=True)
class LabelColumns:
    """The columns with labels.

    Attributes:
        columns: The column of each label, by the name of the label.
        listed: A column of lists of labels; None without it.
        of_boxes: Whether the names of the boxes of an image are its labels.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    listed: str | None = None
    of_boxes: bool = False

    @property
    def are_listed(self) -> bool:
        """Whether an image has a list of labels, and those that are not in it are absent."""
        return self.listed is not None or self.of_boxes


def read_label(column: str, text: str) -> int | None:
    """Return 1, 0, -1 or None for the field of a label column.

    Raises:
        LeftOutError: If it is another word.
    """
    if not text:
        return None
    value = label_value(text)
    if value is None:
        raise LeftOutError(f"unreadable row: label {column} is '{text[:40]}'")
    return value


def read_labels(text: str) -> list[str] | None:
    """Return the labels in a field of a list; None for an empty one. `No Finding` alone says that there is none.

    Example:
        >>> read_labels("Edema|Effusion"), read_labels("['normal']"), read_labels("")
        (['Edema', 'Pleural Effusion'], ['No Finding'], None)
    """
    if not text:
        return None
    items = split_list(text)
    return list(dict.fromkeys("No Finding" if is_normal(item) else spelling(item) for item in items))


def split_list(text: str) -> list[str]:
    """Return the items of a field: of a list as JSON or Python writes it, or between bars, semicolons or commas."""
    items: object = None
    if text.startswith(("[", "(", "{")):
        for read in (json.loads, ast.literal_eval):
            try:
                items = read(text)
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                continue
    if isinstance(items, (list, tuple, set)):
        parts = [str(item) for item in items if item is not None]
    else:
        parts = SEPARATORS.split(text)
        parts = text.split(",") if len(parts) == 1 and "," in text else parts
    return [part for part in (part.strip(" \t\"'[](){}") for part in parts) if part]


def label_names(columns: Sequence[str]) -> dict[str, str]:
    """Return the column of each label by its name, in the usual spelling where no two columns share it.

    Raises:
        UserError: If columns are called the same.
    """
    spelt = [spelling(column.rpartition(".")[2]) for column in columns]
    names = [name if spelt.count(name) == 1 else column for name, column in zip(spelt, columns, strict=True)]
    if len(set(names)) < len(names):
        raise UserError(f"Two of the label columns {', '.join(columns)} have one name: name one of them in --labels.")
    return dict(zip(names, columns, strict=True))


def doubts(column: Column) -> str | None:
    """Return why a column has no labels; None if it has."""
    if not column.filled:
        return "it is empty"
    if column.many:
        return "its values are no labels (1, 0, -1, yes, no and the like)"
    unknown = [value for value in column.values if label_value(value) is None]
    if len(unknown) == len(column.values):
        name = "" if is_known_label(column.name) else "no meaning is known for its name; "
        return f"{name}its values, such as '{unknown[0]}', are no labels (1, 0, yes, no, ...)"
    if unknown:
        return f"{quoted(unknown)} beside label values; --labels takes it, without the rows that hold them"
    if is_known_label(column.name):
        return None
    if is_no_label(column.name):
        return "its values look like labels, its name does not; --labels takes it"
    return None


def check_named(profile: Profile, names: Sequence[str]) -> LabelColumns:
    """Return the label columns that --labels names.

    Raises:
        UserError: If a column has hardly a value that is a label.
    """
    columns = [profile.columns[name] for name in names]
    no_values = columns[0].many or not any(label_value(value) is not None for value in columns[0].values)
    if len(columns) == 1 and no_values and listed_names(profile.filled(names[0])):
        return LabelColumns(listed=names[0])
    for column in columns:
        unknown = {value: number for value, number in column.values.items() if label_value(value) is None}
        if column.many or 2 * sum(unknown.values()) > column.filled:
            examples = quoted([*unknown] or column.examples)
            raise UserError(
                f"--labels names '{column.name}', whose values {examples} are no labels: a label is 1, 0, -1 "
                "(uncertain), empty (not mentioned), or a word such as yes, no, positive, uncertain. Replace them."
            )
    return LabelColumns(label_names(names))


def is_list(column: Column, filled: Sequence[str]) -> bool:
    """Return whether a column holds lists of labels: few different ones, none of them a number or a text.

    Args:
        column: The column.
        filled: Its values in the first rows.
    """
    if not column.filled or (column.values and all(label_value(value) is not None for value in column.values)):
        return False
    return 0 < len(listed_names(filled)) <= max(MOST_LABELS // 10, min(MOST_LABELS, len(filled)))


def listed_names(texts: Sequence[str]) -> set[str]:
    """Return the labels in the fields of lists; none if one of them is a number or a text."""
    items = {item for text in texts for item in split_list(text)}
    return items if all(len(item) <= LONGEST_LABEL and any(map(str.isalpha, item)) for item in items) else set()


def quoted(values: Sequence[str]) -> str:
    """Return the first values in quotes."""
    return ", ".join(f"'{value[:30]}'" for value in values[:4]) + (", ..." if len(values) > 4 else "")
