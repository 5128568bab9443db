"""The labels of TAIX-Ray, from the grades that radiologists gave in the report.

The heart has the grades 0 normal, 1 borderline, 2 enlarged, 3 massively enlarged; all else 0 none, 1 questionable,
2 mild, 3 moderate, 4 severe, for each side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from medvlp.errors import LeftOutError

# Columns with the grades of each label. CheXpert's spelling, if it has the finding.
LABELS = {"Cardiomegaly": ["HeartSize"], "Pulmonary Congestion": ["PulmonaryCongestion"]}
SIDED = {"Pleural Effusion": "PleuralEffusion", "Lung Opacity": "PulmonaryOpacities", "Atelectasis": "Atelectasis"}
SIDES = ("Right", "Left")
LABELS |= {name: [f"{column}_{side}" for side in SIDES] for name, column in SIDED.items()}
LABELS |= {f"{name} {side}": [f"{column}_{side}"] for name, column in SIDED.items() for side in SIDES}
# The highest grade in each column.
GRADES = {column: 3 if column == "HeartSize" else 4 for columns in LABELS.values() for column in columns}


def read_grade(column: str, text: str, highest: int) -> int | None:
    """Return a grade; None if it is missing or negative, not assessable.

    Args:
        column: Name of its column, for the error.
        text: For example 2 or 2.0.
        highest: The highest grade.

    Raises:
        LeftOutError: If it is no grade.
    """
    try:
        value = float(text) if text.strip() else -1.0
    except ValueError:
        value = highest + 1.0
    # Some programs write `nan` for what is missing.
    if math.isnan(value) or value < 0:
        return None
    if value > highest or value != int(value):
        raise LeftOutError(f"unreadable row: {column} '{text}'")
    return int(value)


def read_grades(fields: Iterable[str]) -> dict[str, int | None]:
    """Return the grades of a row by column; see `read_grade`.

    Args:
        fields: Its fields of the columns of GRADES.
    """
    rows = zip(GRADES.items(), fields, strict=True)
    return {column: read_grade(column, text, highest) for (column, highest), text in rows}


def label_of(grades: Sequence[int | None], present: int) -> int | None:
    """Return the label of a finding: 1 if it is present on any side, 0 if on none, None if that is not known.

    Args:
        grades: Its grade on each side.
        present: Lowest grade that counts as present.
    """
    if any(grade is not None and grade >= present for grade in grades):
        return 1
    return None if None in grades else 0


def labels_of(grades: Mapping[str, int | None], present: int) -> list[int | None]:
    """Return a value for each of LABELS; see `label_of`.

    Args:
        grades: The grade in each column.
        present: Lowest grade that counts as present.
    """
    return [label_of([grades[name] for name in names], present) for names in LABELS.values()]
