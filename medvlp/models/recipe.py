"""Class and options that rebuild the image encoder of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from medvlp.config.trust import named
from medvlp.models.weights import EXPORTED

DAMAGED = (SafetensorError, UnpicklingError)
RECIPE = "image_encoder"
"""Entry of a checkpoint with `ImageEncoder.recipe`; the hyper-parameters hold the options of the config."""


def rebuild_settings(settings: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return class and options that rebuild an image encoder without its first weights.

    The function imports the class, so its package must be trusted.

    Args:
        settings: `class_path` and `init_args` from the hyper-parameters of a checkpoint.
        recipe: The entry `RECIPE` of the checkpoint.
    """
    options = named(settings["class_path"]).rebuild_options(settings.get("init_args", {}), recipe)
    return {**settings, "init_args": options}


def read_content(path: str) -> dict[str, Any]:
    """Return the content of a checkpoint, or of the config.json beside exported weights; empty for other files."""
    try:
        beside = Path(path).with_name("config.json")
        if Path(path).name == EXPORTED and beside.is_file():
            return dict(json.loads(beside.read_text()))
        content = torch.load(path, "cpu", weights_only=True, mmap=True)
        return content if isinstance(content, dict) else {}
    except (AttributeError, EOFError, OSError, RuntimeError, TypeError, ValueError, *DAMAGED):
        # The file is damaged or of another kind; reading its weights will raise the error.
        return {}


def image_encoder_settings(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return class and options of a pre-training's image encoder from its config; None for other files."""
    try:
        settings = content["hyper_parameters"]["image_encoder"]
        return dict(settings) if settings["class_path"] and isinstance(settings["init_args"], Mapping) else None
    except (KeyError, TypeError, ValueError):
        return None


def trained_side(content: Mapping[str, Any]) -> int | None:
    """Return the side in pixels of an encoder's training images; None if the file does not hold it."""
    settings = image_encoder_settings(content)
    if settings is None:
        return None
    crop: int | None = content.get("data", {}).get("preprocessing", {}).get("crop")
    return crop or settings["init_args"].get("image_size")
