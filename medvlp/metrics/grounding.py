"""Phrase grounding: agreement of a heat map with the annotated region of a phrase.

A map is (H, W) on the pixels of the image. It is NaN outside the crop that the network has seen. These pixels do not
count, even if they are annotated. The truth is bool (H, W), a mask or the union of all boxes of the phrase. A metric is
NaN if no annotated pixel counts; callers count such phrases and leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Map = npt.NDArray[np.float64]
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


class Overlap(NamedTuple):
    """Agreement of a map with the truth at each of T thresholds, (T,) each.

    Attributes:
        iou: Intersection over union.
        dice: Twice the intersection over the sum of the areas.
        recall: Share of the truth that the map covers.
    """

    iou: Map
    dice: Map
    recall: Map


def box_mask(boxes: npt.ArrayLike, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the union (H, W) of boxes (n, 4), x1, y1, x2, y2; a pixel is in a box if its centre is."""
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).reshape(-1, 4).T[..., None]
    y, x = (np.arange(side) + 0.5 for side in shape)
    rows, columns = (y1 <= y) & (y < y2), (x1 <= x) & (x < x2)
    union: npt.NDArray[np.bool_] = rows.T @ columns
    return union


def smooth(heat: npt.ArrayLike, sigma: float = 1.5) -> Map:
    """Smooth a map (h, w) of patches with a Gaussian, as BioViL does.

    The kernel ends at four standard deviations. Beyond the border the map continues as its reflection, which repeats
    the outermost patch.

    Args:
        heat: The map.
        sigma: Standard deviation in patches.
    """
    smoothed: Map = gaussian_filter(np.asarray(heat, np.float64), sigma, mode="reflect", truncate=4.0)
    return smoothed


def centre_window(shape: tuple[int, int], crop: int) -> tuple[int, int, int, int]:
    """Return the central square of an image (H, W), x1, y1, x2, y2; odd margins are larger at the right and bottom."""
    top, left = ((side - crop) // 2 for side in shape)
    return left, top, left + crop, top + crop


def to_image(
    heat: npt.ArrayLike,
    shape: tuple[int, int],
    window: tuple[float, float, float, float],
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
) -> Map:
    """Enlarge a map of patches to the pixels of an image, as BioViL does.

    Patches are rectangles that fill the window, and their values belong to their centres. Between the outermost centres
    and the border of the window, bilinear values equal those of the outermost patches.

    Args:
        heat: The map, (h, w).
        shape: Height and width of the image.
        window: Part of the image that the network has seen, such as `centre_window`: x1, y1, x2, y2 in pixels. It may
            reach beyond the image if the network has seen padding.
        interpolation: `nearest` gives each pixel the value of its patch, BioViL's default.

    Returns:
        (H, W), NaN outside the window.
    """
    values, (x1, y1, x2, y2) = np.asarray(heat, np.float64), window
    for axis, (side, start, end) in enumerate(zip(shape, (y1, x1), (y2, x2), strict=True)):
        centre, patches = np.arange(side) + 0.5, values.shape[axis]
        place = ((centre - start) / (end - start) * patches - 0.5).clip(0, patches - 1)
        outside = (centre < start) | (centre >= end)
        if interpolation == "nearest":
            place = np.floor(place + 0.5)
        first = np.floor(place).astype(np.int64).clip(max=patches - 1)
        share = np.expand_dims(np.where(outside, np.nan, place - first), 1 - axis)
        second = (first + 1).clip(max=patches - 1)
        values = values.take(first, axis) * (1 - share) + values.take(second, axis) * share
    return values


def rescale(heat: npt.ArrayLike, low: float = 0.0, high: float = 1.0) -> Map:
    """Return a map whose values run from low to high; a constant map becomes low.

    Maps of different models have no common scale for thresholds. MaCo's code rescales to -1 to 1.
    """
    values = np.asarray(heat, np.float64)
    least = np.nanmin(values)
    span = np.nanmax(values) - least
    scaled: Map = low + (high - low) * ((values - least) / span if span > 0 else 0 * values)
    return scaled


def contrast_to_noise(heat: npt.ArrayLike, truth: npt.ArrayLike, signed: bool = False) -> float:
    """Return |mean inside - mean outside| / sqrt(variance inside + variance outside) of the truth, after BioViL.

    Several boxes of a phrase form one region. BioViL instead averages over boxes, and removes earlier boxes from each.

    Args:
        heat: The map.
        truth: The annotated pixels, bool (H, W).
        signed: Whether to keep the sign, so that a map that is lower inside counts against the model. MaCo's code does,
            although its comment names the absolute value.

    Returns:
        A ratio from 0, or any number if signed; higher is better. It is 0 for a constant map, and infinite for two
        different constants inside and outside. It is NaN also if the truth covers all pixels that count.
    """
    values, inside = _counted(heat, truth)
    if not inside.any() or inside.all():
        return float("nan")
    a, b = values[inside], values[~inside]
    if np.ptp(a) == np.ptp(b) == 0:
        # Rounding can make the variance of equal values differ from 0.
        ratio = np.copysign(np.inf, a[0] - b[0]) if a[0] != b[0] else 0.0
    else:
        ratio = (a.mean() - b.mean()) / np.sqrt(a.var() + b.var())
    return float(ratio if signed else abs(ratio))


def pointing(heat: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return 1 if the highest value of a map lies in the truth, otherwise 0.

    If several pixels have this value, the result is the share of them in the truth. So a constant map scores like
    chance. MedKLIP and MaCo count a hit if any of these pixels lies in the truth.
    """
    values, inside = _counted(heat, truth)
    return float(inside[values == values.max()].mean()) if inside.any() else float("nan")


def patch_pointing(heat: npt.ArrayLike, truth: npt.ArrayLike, window: tuple[int, int, int, int]) -> float:
    """Return 1 if the centre of the highest patch of a map (h, w) lies in the truth, otherwise 0.

    An enlarged map is flat between the outermost centres and the border. There `pointing` spreads the highest value
    over half a patch, a twelfth of the image for six patches a side. If several patches have the highest value, the
    result is the share of them in the truth.

    Args:
        heat: The map of patches, not enlarged.
        truth: The annotated pixels, bool (H, W).
        window: Area that the patches fill: x1, y1, x2, y2, inside the image.
    """
    values, (x1, y1, x2, y2) = np.asarray(heat, np.float64), window
    rows, columns = np.nonzero(values == values.max())
    y, x = y1 + (rows + 0.5) * (y2 - y1) / values.shape[0], x1 + (columns + 0.5) * (x2 - x1) / values.shape[1]
    inside = np.asarray(truth, np.bool_)
    return float(inside[y.astype(np.int64), x.astype(np.int64)].mean()) if inside[y1:y2, x1:x2].any() else float("nan")


def pointing_chance(heat: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the expected `pointing` of a random pixel: the truth's share of the pixels that count."""
    _, inside = _counted(heat, truth)
    return float(inside.mean()) if inside.any() else float("nan")


def overlap(heat: npt.ArrayLike, truth: npt.ArrayLike, thresholds: Sequence[float] = THRESHOLDS) -> Overlap:
    """Compare the pixels above each threshold with the truth.

    mIoU (MaCo, ChEX) is the mean of `iou` over the thresholds .1 to .5. A map without a pixel above a threshold scores
    0 there; MaCo's code skips it.

    For G2D's table of zero-shot grounding, we take recall, IoU and Dice at one threshold. We average them over the
    images in which the finding is annotated. G2D's code for this table is not public, and its threshold is unknown.
    MedKLIP's code uses 0.008 for attention over 14 x 14 patches that sums to 1; this is 1.57 times the mean.

    Args:
        heat: The map, on the scale of the thresholds; see `rescale`.
        truth: The annotated pixels, bool (H, W).
        thresholds: Values that a pixel must exceed.
    """
    values, inside = _counted(heat, truth)
    if not inside.any():
        nothing = np.full(len(thresholds), np.nan)
        return Overlap(nothing, nothing, nothing)
    covered = values > np.asarray(thresholds, np.float64)[:, None]
    both, area, target_area = (covered & inside).sum(1), covered.sum(1), inside.sum()
    return Overlap(both / (area + target_area - both), 2 * both / (area + target_area), both / target_area)


def _counted(heat: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Return the values of a map and the truth of the n pixels that count, (n,) each."""
    values = np.asarray(heat, np.float64)
    counted = ~np.isnan(values)
    return values[counted], np.asarray(truth, np.bool_)[counted]
