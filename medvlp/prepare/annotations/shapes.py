"""Shapes in masks: a pixel belongs to a shape if its centre does.

Coordinates are in pixels, x to the right and y down; the left upper corner of the mask is (0, 0).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def rectangle(mask: Mask, x1: float, y1: float, x2: float, y2: float) -> None:
    """Fill a rectangle; whole numbers fill x1:x2 and y1:y2, like indices of an array.

    Args:
        mask: bool (height, width), to be changed. The part beyond it is cut off.
        x1: Left.
        y1: Top.
        x2: Right.
        y2: Bottom.
    """
    left, right = _first_centre(np.array([x1, x2]), mask.shape[1])
    top, bottom = _first_centre(np.array([y1, y2]), mask.shape[0])
    mask[top:bottom, left:right] = True


def ellipse(mask: Mask, x1: float, y1: float, x2: float, y2: float) -> None:
    """Fill the ellipse in a rectangle; for the arguments see `rectangle`."""
    if x1 >= x2 or y1 >= y2:
        return
    # The border belongs to an ellipse: up to a pixel more on the right and below.
    left, right = _first_centre(np.array([x1, x2 + 1]), mask.shape[1])
    top, bottom = _first_centre(np.array([y1, y2 + 1]), mask.shape[0])
    with np.errstate(over="ignore"):  # An ellipse may be as thin as a hair.
        x = (2 * np.arange(left, right) + 1 - x1 - x2) / (x2 - x1)
        y = (2 * np.arange(top, bottom) + 1 - y1 - y2) / (y2 - y1)
        mask[top:bottom, left:right] |= x**2 + y[:, None] ** 2 <= 1


def polygon(mask: Mask, points: npt.NDArray[np.float64]) -> None:
    """Fill a polygon by the even-odd rule.

    Args:
        mask: bool (height, width), to be changed. The part beyond it is cut off.
        points: Corners (n, 2) as x, y; an edge joins the last to the first.
    """
    height, width = mask.shape
    # An edge flips all pixels to the right of it; pixels with an odd number of flips are inside.
    turns = np.zeros((height, width + 1), np.bool_)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        top, bottom = _first_centre(np.array([min(y1, y2), max(y1, y2)]), height)
        rows = np.arange(top, bottom)
        if len(rows):
            crossings = x1 + (rows + 0.5 - y1) * ((x2 - x1) / (y2 - y1))
            turns[rows, _first_centre(crossings, width)] ^= True
    mask |= np.logical_xor.accumulate(turns[:, :-1], axis=1)


def _first_centre(position: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.int64]:
    """Return the index of the first pixel whose centre is at or after a position, at most `size`."""
    return np.clip(np.ceil(position - 0.5), 0, size).astype(np.int64)
