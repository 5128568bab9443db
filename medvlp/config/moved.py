"""Current names of classes from version 0.1, for error messages about configs and for reading checkpoints."""

from __future__ import annotations

import re
from typing import Any

# Modules whose classes are named in the configs of runs.
MODULES = {"medvlp.callbacks": "medvlp.trainer.callbacks", "medvlp.heatmaps": "medvlp.trainer.heat_maps"}
# Classes that are abstract now, and the implementations with their former behaviour.
CLASSES = {
    "medvlp.models.ImageEncoder": "medvlp.models.TimmEncoder",
    "medvlp.models.TextEncoder": "medvlp.models.HFTextEncoder",
}
MODULE = re.compile(rf"\b({'|'.join(map(re.escape, MODULES))})\.(\w+)")
CONTRACT = re.compile(r"but (?:medvlp\.models\.)?(\w+) is abstract")


def new_name(message: str) -> str | None:
    """Return the new name of the class in a parser error; None if it is no class of version 0.1 that has moved."""
    if module := MODULE.search(message):
        return f"{MODULES[module[1]]}.{module[2]}"
    contract = CONTRACT.search(message)
    return CLASSES.get(f"medvlp.models.{contract[1]}") if contract else None


def with_new_names(settings: Any) -> Any:
    """Return the settings of a checkpoint with the current names of classes from version 0.1."""
    if isinstance(settings, dict):
        renamed = {key: with_new_names(value) for key, value in settings.items()}
        path = renamed.get("class_path")
        return {**renamed, "class_path": CLASSES[path]} if isinstance(path, str) and path in CLASSES else renamed
    if isinstance(settings, list):
        return [with_new_names(value) for value in settings]
    return settings
