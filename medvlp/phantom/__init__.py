"""Synthetic chest radiographs and reports with a known truth; the command `phantom`.

The phantom has the raw layouts of real data sets. Nothing here imports torch.
"""

from medvlp.phantom.command import phantom

__all__ = ["phantom"]
