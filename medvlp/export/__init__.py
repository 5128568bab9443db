"""A pre-trained model as a folder that needs neither its checkpoint nor the config of its training."""

from medvlp.export.command import export

COMMAND = export
POSITIONAL = True
