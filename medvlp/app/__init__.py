"""The command `app`: a local web page with the scores, tags and heat maps of a model for images.

The server needs the extra `app`.
"""

from medvlp.app.command import app

__all__ = ["app"]
