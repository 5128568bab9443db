"""Findings that radiologists graded, 0 being absent, as labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medvlp.errors import LeftOutError


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


def label_of(grades: Sequence[int | None], present: int) -> int | None:
    """Return the label of a finding: 1 if it is present on any side, 0 if on none, None if that is not known.

    Args:
        grades: Its grade on each side.
        present: Lowest grade that counts as present.
    """
    if any(grade is not None and grade >= present for grade in grades):
        return 1
    return None if None in grades else 0
