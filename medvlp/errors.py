"""Errors that the user of a command can act on; the command line prints them on one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user gave is wrong: the message says what, where, and what to do."""


class StoppedWithOthersError(UserError):
    """What the first of several processes reports as a `UserError`; the others end with it and say nothing."""


class UnsuitableDataError(UserError):
    """A prepared folder is there, but is none that a test is about."""


class NotFoundError(UserError, FileNotFoundError):
    """A file or folder that was asked for is not there."""

    def __str__(self) -> str:
        """Return the message alone: OSError would format its arguments as an errno."""
        return str(self.args[0])


class LeftOutError(Exception):
    """Something cannot be used; the message is the reason that skipped.csv gets."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean '...'?` with the closest known name, or nothing where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
