"""The command `regions`: trains on phantoms the small networks with which `prepare` looks at images.

They are the automatic localiser of anatomical regions and the classifiers of lateral and mirrored views. The results
are data files of `medvlp.prepare`, which runs them without torch.
"""

from medvlp.localiser.training import train
from medvlp.localiser.views import train_views

__all__ = ["COMMANDS", "train", "train_views"]

COMMANDS = {"train": train, "train_views": train_views}
