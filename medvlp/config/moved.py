"""Names of classes in version 0.1, and their names since: for the errors about configs, and to read checkpoints."""

from __future__ import annotations

import re
from typing import Any

# Modules whose classes stand in the configs of runs.
MODULES = {"medvlp.callbacks": "medvlp.trainer.callbacks", "medvlp.heatmaps": "medvlp.trainer.heat_maps"}
# Classes that have become contracts, and the implementation that each of them was.
CLASSES = {
    "medvlp.models.ImageEncoder": "medvlp.models.TimmEncoder",
    "medvlp.models.TextEncoder": "medvlp.models.HFTextEncoder",
}
MODULE = re.compile(rf"\b({'|'.join(map(re.escape, MODULES))})\.(\w+)")
CONTRACT = re.compile(r"but (?:medvlp\.models\.)?(\w+) is abstract")


def new_name(message: str) -> str | None:
    """Return the new name of the class that an error of the parser refuses; None if that is no class of version 0.1."""
    if module := MODULE.search(message):
        return f"{MODULES[module[1]]}.{module[2]}"
    contract = CONTRACT.search(message)
    return CLASSES.get(f"medvlp.models.{contract[1]}") if contract else None


def with_new_names(settings: Any) -> Any:
    """Return settings that version 0.1 has stored in a checkpoint, with the classes' new names."""
    if isinstance(settings, dict):
        renamed = {key: with_new_names(value) for key, value in settings.items()}
        path = renamed.get("class_path")
        return {**renamed, "class_path": CLASSES[path]} if isinstance(path, str) and path in CLASSES else renamed
    if isinstance(settings, list):
        return [with_new_names(value) for value in settings]
    return settings
