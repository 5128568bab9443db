"""Preparation of a cell's data: options of `medvlp prepare`, and hashes of the resulting pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medvlp.prepared import IMAGES, MASKS

# Options that tables show elsewhere.
SAID_ELSEWHERE = ("dataset", "synthetic")
UNKNOWN = "unknown"


def in_words(data: Mapping[str, Any]) -> str:
    """Return the options as text, such as `256 px, pad, views AP+PA`; `unknown` if older results lack them.

    Args:
        data: The entry `data` of results.json.
    """
    options = data.get("options")
    if options is None:
        return UNKNOWN
    others = {name: value for name, value in options.items() if name not in ("size", "resize", *SAID_ELSEWHERE)}
    words = (f"{name} {_word(value)}" for name, value in others.items() if value)
    return ", ".join([f"{options['size']} px", options["resize"], *words])


def identity(data: Mapping[str, Any]) -> str:
    """Return a text of the options and the hashes of images and masks; equal texts mean comparable data."""
    pixels = {name: data.get("sha256", {}).get(name) for name in (IMAGES, MASKS)}
    return json.dumps([data.get("options"), pixels], sort_keys=True)


def _word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
