"""Dates in a table: 2020-01-31, 20200131, 31.01.2020, 31-JAN-2020; 31/01/2020 or 01/31/2020, if the column tells."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medvlp.prepare.order import moment
from medvlp.prepare.own.names import month_names
from medvlp.prepare.words import plain

YEAR_FIRST = re.compile(r"((?:19|20)\d{2})([-./]?)(\d{1,2})\2(\d{1,2})(?:(?!\d)|(?<=\d{8})(?=\d{4}(?:\d\d)?\b))")
# A year of two digits has its century from `CENTURY`; 21-03-05 may begin with it.
YEAR_LAST = re.compile(r"(\d{1,2})([-./])(\d{1,2})\2((?:19|20)\d{2}|(?<=[./])\d{2})(?!\d)")
CHINESE = re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日?")
# 31-JAN-2020, 31. Januar 2020 and Jan 31, 2020, in plain lower case.
NAMED = re.compile(r"(?:(\d{1,2})[-./ ]+)?([^\W\d_]{3,12})[-./ ]+(?:(\d{1,2}),? +)?((?:19|20)\d{2})(?!\d)")
# The first year of two digits that belongs to 19xx.
CENTURY = 70
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
        >>> day("3-Feb-2021", None), day("3/2/21", False), day("2021年2月3日", None), day("20210203101500", None)
        ('20210203', '20210203', '20210203', '20210203')
    """
    date = CHINESE.sub(r"\1-\2-\3 ", date.strip())
    if match := YEAR_FIRST.match(date):
        year, _, month, number = match.groups()
    elif match := YEAR_LAST.match(date):
        number, mark, month, year = match.groups()
        # Nobody writes 01.31.2020 or 01-31-2020 for the month first, unless the column says so.
        if mark == "/" and is_month_first is None and number != month:
            return ""
        if is_month_first:
            number, month = month, number
        if len(year) == 2:
            year = f"{19 if int(year) >= CENTURY else 20}{year}"
    elif (match := NAMED.match(plain(date))) and bool(match[1]) != bool(match[3]):
        number, month, year = match[1] or match[3], month_names().get(match[2], "0"), match[4]
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
