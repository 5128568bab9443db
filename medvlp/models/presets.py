"""Image encoders by name: what `hf:...`, `open_clip:...`, `torchxrayvision:...` and presets stand for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from medvlp.errors import UserError
from medvlp.models.hf_vision import find_transformers
from medvlp.models.hub import find_weights
from medvlp.models.open_clip_tower import find_open_clip
from medvlp.models.sources import Source, read_normalisation
from medvlp.models.xrayvision import find_xrayvision

SCHEMES: dict[str, Callable[[str, bool], Source]] = {
    "hf:": find_transformers,
    "open_clip:": find_open_clip,
    "torchxrayvision:": find_xrayvision,
}
"""Functions that find the source of a name by its scheme."""


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Return the presets by name; their fields are described in presets.yaml."""
    content: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("presets.yaml").read_text("utf-8"))
    return content


def is_named(name: str) -> bool:
    """Return whether a name is a preset or has a scheme, and so names weights beside an architecture."""
    return name in presets() or name.startswith(("timm/", "hf-hub:", "hf_hub:", "local-dir:", *SCHEMES))


def find_source(name: str, weights: bool) -> Source | None:
    """Return what a name stands for; None for names that timm knows itself.

    Args:
        name: A preset, or a name with a scheme; see `TimmEncoder`.
        weights: Whether to find the weights, too, on the hub or in its cache.

    Raises:
        UserError: If there is no such model, its architecture is none that timm has, or its files cannot be had.
    """
    if name in presets():
        return _preset(name, weights)
    for scheme, find in SCHEMES.items():
        if name.startswith(scheme):
            return find(name.removeprefix(scheme), weights)
    return None


def _preset(name: str, weights: bool) -> Source:
    preset = presets()[name]
    if weights and "hub" not in preset:
        raise UserError(
            f"image encoder name='{name}': its weights cannot be downloaded by a program. Get the file from "
            f"{preset['source']} (licence: {preset['licence']}), and pass it as weights=FILE."
        )
    return Source(
        preset["architecture"],
        preset.get("arguments", {}),
        preset["image_size"],
        read_normalisation(preset["normalisation"]),
        find_weights(preset["hub"], [preset["file"]]) if weights else (),
        preset.get("prefix"),
        preset.get("antialias", True),
    )
