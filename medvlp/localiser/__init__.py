"""The command `regions`: trains the automatic localiser of anatomical regions on the phantom.

The result is a data file of `medvlp.prepare.regions`, which runs the network without torch.
"""

from medvlp.localiser.training import train

__all__ = ["COMMANDS", "train"]

COMMANDS = {"train": train}
