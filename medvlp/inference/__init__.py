"""The use of a trained model: reading image files, and the commands `predict`, `explain` and `search`.

`Model` is the one door to a model; nothing here trains or needs a Trainer.
"""

from medvlp.inference.model import Model

__all__ = ["Model"]
