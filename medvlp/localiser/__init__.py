"""The command `regions`: trains the automatic localiser of anatomical regions on the phantom.

Its result is data of `medvlp.prepare.regions`, which computes it without torch.
"""

from medvlp.localiser.training import train

__all__ = ["COMMANDS", "train"]

COMMANDS = {"train": train}
