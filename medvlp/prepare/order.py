"""The order of a patient's studies in time, from what data sets say of it."""

from __future__ import annotations

import re


def number_at_end(name: str) -> int | None:
    """Return the number at the end of the name of a study, such as study2; None if there is none."""
    found = re.search(r"\d+$", name)
    return int(found[0]) if found else None


def moment(date: str, time: str = "") -> int | None:
    """Return a date and a time of DICOM as a number that grows with time; None without a readable date.

    Args:
        date: As YYYYMMDD or YYYY-MM-DD.
        time: As HHMMSS, perhaps with a fraction of the second; anything else counts as midnight.
    """
    day = re.fullmatch(r"(\d{4})(-?)(\d\d)\2(\d\d)", date.strip())
    if day is None:
        return None
    hour = re.fullmatch(r"(\d{1,6})(\.\d*)?", time.strip())
    # A reader that takes times for numbers drops their leading zeros.
    return int(day[1] + day[3] + day[4]) * 1_000_000 + (int(hour[1]) if hour else 0)
