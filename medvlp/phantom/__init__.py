"""A synthetic chest radiograph world with known truth, written in the raw layout of a real data set."""

from medvlp.phantom.command import COMMAND, phantom

__all__ = ["COMMAND", "phantom"]
