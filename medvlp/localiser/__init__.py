"""The command `regions`: trains on phantoms the small networks with which `prepare` looks at images.

They are the automatic localiser of anatomical regions and the classifier of lateral views. The results are data files
of `medvlp.prepare`, which runs them without torch.
"""

from medvlp.localiser.laterals import train_laterals
from medvlp.localiser.training import train

__all__ = ["COMMANDS", "train", "train_laterals"]

COMMANDS = {"train": train, "train_laterals": train_laterals}
