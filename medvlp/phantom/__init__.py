"""A synthetic chest radiograph world with known truth; the command `phantom`.

It draws images and reports, and writes them in the raw layouts of real data sets. Free of torch.
"""

from medvlp.phantom.command import phantom

__all__ = ["phantom"]
