"""Errors that the user of a command can act on; the command line prints them on one line."""


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
