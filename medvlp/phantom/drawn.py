"""The visible findings of one image, as annotators of images, not of reports, see them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from medvlp.phantom.images import Box, Image
from medvlp.phantom.world import Finding, Shot, Study

# Least area that annotators outline.
_LEAST_CM2 = 1.0


def drawn(study: Study, image: Image) -> tuple[Finding, ...]:
    """Return the findings of a study with at least one pixel in this image."""
    return tuple(f for f in study.findings if (mask := image.masks.get(f.name)) is not None and mask.any())


def frontal(pictures: list[tuple[Shot, Image]]) -> list[tuple[Shot, Image]]:
    """Return the frontal images of a study."""
    return [(shot, image) for shot, image in pictures if shot.view != "LATERAL"]


def bounds(mask: npt.NDArray[np.bool_]) -> Box | None:
    """Return the box x1, y1, x2, y2 (exclusive) of a mask; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def outlined(mask: npt.NDArray[np.bool_], shot: Shot) -> list[Box]:
    """Return the boxes x1, y1, x2, y2 (exclusive) of the connected parts of a mask from 1 cm2, from left to right."""
    pixels_per_cm = max(mask.shape) / max(shot.field)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    kept = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= _LEAST_CM2 * pixels_per_cm**2]
    return sorted((int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in kept)


def each_side(f: Finding, image: Image) -> list[Box]:
    """Return the box of a finding in a frontal image; two boxes, the right first, if it is bilateral."""
    mask = image.masks[f.name]
    spine = image.regions["spine"]
    right = np.arange(mask.shape[1]) < (spine[0] + spine[2]) / 2
    parts = [mask & right, mask & ~right] if f.side == "bilateral" else [mask]
    return [box for part in parts if (box := bounds(part)) is not None]
