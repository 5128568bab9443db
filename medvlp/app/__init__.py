"""The command `app`: a page on this machine that shows what a model sees in images.

Its server needs the extra `app`.
"""

from medvlp.app.command import app

__all__ = ["app"]
