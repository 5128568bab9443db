"""Values of command-line options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlp.errors import UserError


def split_commas(text: str) -> list[str]:
    """Return the parts of a text between commas, without duplicates and empty parts."""
    return list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))


def one_root(config: Mapping[str, Any], command: str) -> Path:
    """Return the prepared folder of a config.

    Args:
        config: The config of a verb of the Trainer.
        command: The command that reads one folder alone.

    Raises:
        UserError: If the config names several.
    """
    root = config["data"]["root"]
    if not isinstance(root, str):
        raise UserError(f"--data.root {root}: '{command}' reads one prepared folder; several are for 'medvlp fit'.")
    return Path(root)
