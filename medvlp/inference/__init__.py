"""Use of a trained model: reading image files, and the commands `predict`, `explain` and `search`.

All access to a model goes through `Model`. Nothing here trains or needs a Trainer.
"""

from medvlp.inference.model import Model

__all__ = ["Model"]
