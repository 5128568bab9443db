"""The pyramid of maps that detectors read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

LEVELS = slice(-3, None)
"""Which of an encoder's maps a detector reads."""
STRIDES = (8, 16, 32)
"""Pixels between their cells, as in YOLOv3; those of the last three maps of a convolutional network."""


def pyramid(maps: Sequence[Tensor], strides: Sequence[int]) -> list[Tensor]:
    """Return three maps of strides 8, 16 and 32, resampling those of another stride.

    Of a transformer, whose maps all have its patches, the finest is thereby enlarged and the coarsest reduced, as
    ViTDet does with layers to train.

    Args:
        maps: Maps (B, C, h, w), fine to coarse.
        strides: Theirs, in pixels.
    """
    return [
        level if have == want else F.interpolate(level, scale_factor=have / want, mode="bilinear")
        for level, have, want in zip(maps, strides, STRIDES, strict=True)
    ]
