"""Phrase grounding: how well a heat map shows where in an image a phrase is true.

A map is (H, W) on the pixels of the image, NaN where the network has not looked, outside its crop: these pixels do not
count, nor does what is annotated there. The truth is bool (H, W), a mask or the union of all boxes of the phrase. Where
no annotated pixel counts, a metric is NaN: such phrases are to be counted and left out.
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
    """Return the union (H, W) of boxes (n, 4), x1, y1, x2, y2: a pixel is in a box if its centre is."""
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).reshape(-1, 4).T[..., None]
    y, x = (np.arange(side) + 0.5 for side in shape)
    rows, columns = (y1 <= y) & (y < y2), (x1 <= x) & (x < x2)
    union: npt.NDArray[np.bool_] = rows.T @ columns
    return union


def smooth(heat: npt.ArrayLike, sigma: float = 1.5) -> Map:
    """Smooth a map (h, w) of patches with a Gaussian, as BioViL does.

    The kernel ends at four standard deviations. At the border the map is continued by its reflection, the outermost
    patch coming twice.

    Args:
        heat: The map.
        sigma: Standard deviation in patches.
    """
    smoothed: Map = gaussian_filter(np.asarray(heat, np.float64), sigma, mode="reflect", truncate=4.0)
    return smoothed


def centre_window(shape: tuple[int, int], crop: int) -> tuple[int, int, int, int]:
    """Return the central square of an image (H, W) as x1, y1, x2, y2; the greater half of an odd margin is behind."""
    top, left = ((side - crop) // 2 for side in shape)
    return left, top, left + crop, top + crop


def to_image(
    heat: npt.ArrayLike,
    shape: tuple[int, int],
    window: tuple[float, float, float, float],
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
) -> Map:
    """Enlarge a map of patches to the pixels of an image, as BioViL does.

    Patches are squares that fill the window, their values belong to their centres. Bilinear values between the
    outermost centres and the border of the window are those of the outermost patches.

    Args:
        heat: The map, (h, w).
        shape: Height and width of the image.
        window: x1, y1, x2, y2 in pixels of the image: what the network has looked at, such as `centre_window`. It may
            reach beyond the image, where the network has looked at padding.
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
    """Return a map whose values run from low to high; one that is everywhere the same becomes low.

    Maps of different models have no common scale for thresholds. MaCo's code runs them from -1 to 1.
    """
    values = np.asarray(heat, np.float64)
    least = np.nanmin(values)
    span = np.nanmax(values) - least
    scaled: Map = low + (high - low) * ((values - least) / span if span > 0 else 0 * values)
    return scaled


def contrast_to_noise(heat: npt.ArrayLike, truth: npt.ArrayLike, signed: bool = False) -> float:
    """Return |mean inside - mean outside| / sqrt(variance inside + variance outside) of the truth, after BioViL.

    Several boxes of a phrase are one region (BioViL averages over boxes, each with the earlier ones taken out).

    Args:
        heat: The map.
        truth: What is annotated.
        signed: Keep the sign, so that a map that is lower inside counts against the model; MaCo's code does, though its
            comment has the absolute value.

    Returns:
        From 0, or any number if signed; higher is better. 0 for a constant map, infinite for two constants; NaN also
        where nothing is outside.
    """
    values, inside = _counted(heat, truth)
    if not inside.any() or inside.all():
        return float("nan")
    a, b = values[inside], values[~inside]
    if np.ptp(a) == np.ptp(b) == 0:
        # Rounded, their variances need not be 0.
        ratio = np.copysign(np.inf, a[0] - b[0]) if a[0] != b[0] else 0.0
    else:
        ratio = (a.mean() - b.mean()) / np.sqrt(a.var() + b.var())
    return float(ratio if signed else abs(ratio))


def pointing(heat: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return whether the highest value of a map lies in the truth, 0 or 1.

    Of several pixels with this value it is the share that does, so that a constant map is right as often as chance is.
    MedKLIP and MaCo count a hit if any of them lies in it.
    """
    values, inside = _counted(heat, truth)
    return float(inside[values == values.max()].mean()) if inside.any() else float("nan")


def patch_pointing(heat: npt.ArrayLike, truth: npt.ArrayLike, window: tuple[int, int, int, int]) -> float:
    """Return whether the centre of the highest patch of a map (h, w) lies in the truth, 0 or 1.

    Between the outermost centres and the border an enlarged map is flat: there `pointing` takes the highest place to be
    anywhere in half a patch, which is a twelfth of the image where there are six. Of several patches with the highest
    value it is the share that hits.

    Args:
        heat: The map of patches, not enlarged.
        truth: What is annotated, (H, W).
        window: x1, y1, x2, y2, all inside the image: what the patches fill.
    """
    values, (x1, y1, x2, y2) = np.asarray(heat, np.float64), window
    rows, columns = np.nonzero(values == values.max())
    y, x = y1 + (rows + 0.5) * (y2 - y1) / values.shape[0], x1 + (columns + 0.5) * (x2 - x1) / values.shape[1]
    inside = np.asarray(truth, np.bool_)
    return float(inside[y.astype(np.int64), x.astype(np.int64)].mean()) if inside[y1:y2, x1:x2].any() else float("nan")


def pointing_chance(heat: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return how often a random pixel lies in the truth: its share of the area that counts."""
    _, inside = _counted(heat, truth)
    return float(inside.mean()) if inside.any() else float("nan")


def overlap(heat: npt.ArrayLike, truth: npt.ArrayLike, thresholds: Sequence[float] = THRESHOLDS) -> Overlap:
    """Compare what lies above each threshold with the truth, pixel by pixel.

    mIoU (MaCo, ChEX) is the mean of `iou` over the thresholds .1 to .5. A map that is nowhere above a threshold counts
    0 there; MaCo's code skips it.

    Recall, IoU and Dice of G2D's table of zero-shot grounding are read as these at one threshold, then averaged over
    the images in which the finding is annotated. G2D's code of it is not public and its threshold not known; MedKLIP's
    code has 0.008 for attention over 14 x 14 patches that sums to 1, which is 1.57 times its mean.

    Args:
        heat: The map, on the scale of the thresholds; see `rescale`.
        truth: What is annotated.
        thresholds: Values that a pixel must exceed.
    """
    values, inside = _counted(heat, truth)
    if not inside.any():
        nothing = np.full(len(thresholds), np.nan)
        return Overlap(nothing, nothing, nothing)
    covered = values > np.asarray(thresholds, np.float64)[:, None]
    both, area, wanted = (covered & inside).sum(1), covered.sum(1), inside.sum()
    return Overlap(both / (area + wanted - both), 2 * both / (area + wanted), both / wanted)


def _counted(heat: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Return the values of a map and the truth of the n pixels that count, (n,) each."""
    values = np.asarray(heat, np.float64)
    counted = ~np.isnan(values)
    return values[counted], np.asarray(truth, np.bool_)[counted]
