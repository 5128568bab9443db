"""Conversion of pixels of any depth and colour to 8-bit grey levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def to_grey(image: Image.Image) -> Image.Image:
    """Return an image of any mode in mode L."""
    from PIL import Image

    if image.mode in WIDE_MODES:
        return Image.fromarray(scale_to_bytes(np.asarray(image)))
    if image.mode == "L":
        image.load()
        return image
    # Pillow converts every mode to RGB, and RGB to grey.
    return image.convert("RGB").convert("L")


def scale_to_bytes(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Return an array scaled from its range to 0..255; zeros for a constant array."""
    values = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255 / (high - low) if high > low else 0.0)
    return np.asarray(np.rint(scaled), np.uint8)
