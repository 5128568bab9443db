"""The command `export`: a pre-trained model as a folder that needs neither its checkpoint nor its config.

One file a format, and the model card.
"""

from medvlp.export.command import export

__all__ = ["export"]
