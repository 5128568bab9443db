"""Dates in a table: 2020-01-31, 20200131, 31.01.2020, and 31/01/2020 or 01/31/2020, where the column tells which."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medvlp.prepare.order import moment

YEAR_FIRST = re.compile(r"((?:19|20)\d{2})([-./]?)(\d{1,2})\2(\d{1,2})(?!\d)")
YEAR_LAST = re.compile(r"(\d{1,2})([-./])(\d{1,2})\2((?:19|20)\d{2})(?!\d)")
TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?|(?<!\d)(\d{6})(?:\.\d+)?$")
RANK = re.compile(r"\d{1,5}")


def month_first(dates: Iterable[str]) -> bool | None:
    """Return whether the month comes before the day in the dates of a column that end in the year; None if none tells.

    Example:
        >>> month_first(["02/03/2021", "01/31/2020"]), month_first(["31/01/2020"]), month_first(["02/03/2021"])
        (True, False, None)
    """
    found = [(int(match[1]), int(match[3])) for match in map(YEAR_LAST.match, dates) if match]
    days, months = (any(numbers[place] > 12 for numbers in found) for place in (0, 1))
    return months if days != months else None


def day(date: str, is_month_first: bool | None) -> str:
    """Return a date as YYYYMMDD; empty if it cannot be read, or may be either of two days.

    Args:
        date: The date, perhaps with a time behind it.
        is_month_first: As `month_first` returns it.

    Example:
        >>> day("3.2.2021", None), day("2021-02-03T10:15", None), day("02/03/2021", True), day("02/03/2021", None)
        ('20210203', '20210203', '20210203', '')
    """
    if match := YEAR_FIRST.match(date.strip()):
        year, _, month, number = match.groups()
    elif match := YEAR_LAST.match(date.strip()):
        number, mark, month, year = match.groups()
        # Nobody writes 01.31.2020 or 01-31-2020 for the month first, unless the column says so.
        if mark == "/" and is_month_first is None and number != month:
            return ""
        if is_month_first:
            number, month = month, number
    else:
        return ""
    return f"{year}{int(month):02d}{int(number):02d}" if 1 <= int(month) <= 12 and 1 <= int(number) <= 31 else ""


def order_of(date: str, is_month_first: bool | None) -> int | None:
    """Return a number that grows with time, or the number itself if a column ranks the studies; None if unreadable.

    Args:
        date: As for `day`.
        is_month_first: As `month_first` returns it.
    """
    if RANK.fullmatch(date):
        return int(date)
    time = TIME.search(date.strip()[8:])
    clock = "".join(f"{int(part or 0):02d}" for part in time.groups()[:3]) if time and time[1] else time and time[4]
    return moment(day(date, is_month_first), clock or "")
