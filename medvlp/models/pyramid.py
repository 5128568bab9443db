"""Pyramid of feature maps for detectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

LEVELS = slice(-3, None)
"""Slice of an encoder's maps that a detector reads."""
STRIDES = (8, 16, 32)
"""Strides of these maps in pixels, as in YOLOv3 and as in the last three maps of a convolutional network."""


def pyramid(maps: Sequence[Tensor], strides: Sequence[int]) -> list[Tensor]:
    """Return three maps with strides 8, 16 and 32; maps with another stride are resampled.

    All maps of a transformer have the stride of its patches. With patches of 16 pixels, the finest map is enlarged and
    the coarsest reduced. ViTDet does this with trainable layers.

    Args:
        maps: Three maps (B, C, h, w), fine to coarse.
        strides: Strides of the maps in pixels.
    """
    return [
        level if have == want else F.interpolate(level, scale_factor=have / want, mode="bilinear")
        for level, have, want in zip(maps, strides, STRIDES, strict=True)
    ]
