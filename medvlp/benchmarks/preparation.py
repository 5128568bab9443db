"""How the data of a cell were prepared: by which options of `medvlp prepare`, and to which pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medvlp.prepared import IMAGES, MASKS

# Options that tables say anyway.
SAID_ELSEWHERE = ("dataset", "synthetic")
UNKNOWN = "unknown"


def in_words(data: Mapping[str, Any]) -> str:
    """Return the options, such as `256 px, pad, views AP+PA`; `unknown` where results are older than this note.

    Args:
        data: What results.json says of the data.
    """
    options = data.get("options")
    if options is None:
        return UNKNOWN
    others = {name: value for name, value in options.items() if name not in ("size", "resize", *SAID_ELSEWHERE)}
    said = (f"{name} {_word(value)}" for name, value in others.items() if value)
    return ", ".join([f"{options['size']} px", options["resize"], *said])


def identity(data: Mapping[str, Any]) -> str:
    """Return a text of the options, and of the hashes of images and masks: equal where the data can be compared."""
    pixels = {name: data.get("sha256", {}).get(name) for name in (IMAGES, MASKS)}
    return json.dumps([data.get("options"), pixels], sort_keys=True)


def _word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
