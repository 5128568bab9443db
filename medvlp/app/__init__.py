"""`medvlp app`: a page on this machine for looking at images with a model; its server needs the extra `app`."""

from medvlp.app.command import app

COMMAND = app

__all__ = ["COMMAND", "app"]
