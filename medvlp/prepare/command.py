"""`medvlp prepare`: a command for each data set, and their list by purpose."""

from medvlp.prepare.catalogue import listing
from medvlp.prepare.datasets import COMMANDS

__all__ = ["COMMANDS", "listing"]
