"""How an image encoder is made again, as files of pre-trained weights say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from medvlp.models.weights import EXPORTED

DAMAGED = (SafetensorError, UnpicklingError)
RECIPE = "image_encoder"
"""The entry of a checkpoint with `ImageEncoder.recipe`; the hyper-parameters hold the names that a config has given."""


def image_encoder_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that make the image encoder of a checkpoint without the hub, a folder or other weights.

    Args:
        checkpoint: The content of a checkpoint of `medvlp fit`, or of the config.json of `medvlp export`.
    """
    resolved = {key: value for key, value in checkpoint.get(RECIPE, {}).items() if value}
    options = checkpoint["hyper_parameters"]["image_encoder"]["init_args"]
    return {**options, **resolved, "pretrained": False, "weights": None}


def read_content(path: str) -> dict[str, Any]:
    """Return what a checkpoint holds, or the config.json beside exported weights; nothing of other files."""
    try:
        beside = Path(path).with_name("config.json")
        if Path(path).name == EXPORTED and beside.is_file():
            return dict(json.loads(beside.read_text()))
        content = torch.load(path, "cpu", weights_only=True, mmap=True)
        return content if isinstance(content, dict) else {}
    except (AttributeError, EOFError, OSError, RuntimeError, TypeError, ValueError, *DAMAGED):
        # Of another kind, or damaged, which reading its weights will say.
        return {}


def read_recipe(path: str) -> dict[str, Any]:
    """Return `image_encoder_options` of a checkpoint, or of the weights in a folder of `medvlp export`.

    Their `image_size` is the side of the images that the encoder was trained on. Of any other file nothing.
    """
    checkpoint = read_content(path)
    try:
        options = image_encoder_options(checkpoint)
        seen = checkpoint.get("data", {}).get("preprocessing", {}).get("crop")
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}
    return {**options, "image_size": seen or options.get("image_size")}
