"""`medvlp regions train`: makes the data of the automatic localiser from the phantom, from nothing."""

from medvlp.localiser.train import train

__all__ = ["COMMANDS", "train"]

COMMANDS = {"train": train}
