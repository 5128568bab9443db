"""The flags that a picture raises by its looks.

Most frontal radiographs are recognised by a template and the classifiers of views. In the others, lung fields that the
localiser of regions finds make an upright frontal radiograph. Where it finds none, it looks again at the picture
turned, upside down and inverted, and the classifier tells lateral views from other things.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medvlp.prepare.regions.lung_fields import Mask, find_masks, network_input
from medvlp.prepare.regions.square import Square, has_lungs, network
from medvlp.prepare.screening.views import features, lateral_logit, mirrored_lead

Grey = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]

# Threshold of the range of the central 98 % of the pixels; radiographs have 120 or more.
FLAT = 16
# Threshold of the share of pixels in the lowest and highest tenth of that range; radiographs reach 0.58.
TWO_TONE = 0.85
# Correlation with CHEST that another orientation must exceed, and its least lead over the upright orientation's.
FITS, BETTER = 0.5, 0.35
# Correlation with CHEST of a plain frontal radiograph.
PLAIN = 0.5
# Sum of the correlations with CHEST and with its own mirror image of a frontal radiograph in which no lung fields are
# found; lateral ones reach 1.31. Least logit of a lateral one that seems frontal so.
FRONTAL, SURE = 1.33, 8.0
# Side of the images compared, shifts of the axis of symmetry, and greatest standard deviation of an empty border row.
SIDE = 32
SHIFTS = range(-5, 6)
EMPTY = 6.0
# Logit below which a view is hardly lateral or mirrored.
HARDLY = -1.0
# Two signs of a mirror image: the offset of the heart to the image's right, as a share of the width of the lungs, is
# below HEART; the lead by the classifier plus GAIN times what the offset gains by mirroring is above MIRRORED.
HEART, GAIN, MIRRORED = 0.06, 50.0, 4.0


def look(square: Square) -> list[str]:
    """Return the flags that the pixels of an image raise."""
    image = square.image
    counts = np.bincount(image.ravel(), minlength=256)
    share = np.cumsum(counts) / image.size
    low, high = (int(np.searchsorted(share, part)) for part in (0.01, 0.99))
    if high - low < FLAT:
        return ["flat"]
    tenth = (high - low) / 10
    levels = np.arange(256)
    extreme = counts[(levels < low + tenth) | (levels > high - tenth)].sum() / image.size
    return [*(["two-tone"] if extreme > TWO_TONE else []), *_orientation(square)]


def _orientation(square: Square) -> list[str]:
    image, seen = square.image, square.input
    found = features(seen)
    likeness = correlation(seen.reshape(SIDE, 2, SIDE, 2).mean((1, 3)), CHEST)
    lateral, lead = lateral_logit(found), mirrored_lead(found)
    # Seven of ten frontal radiographs are so plain that the localiser, which takes four times as long, is not asked.
    if likeness > PLAIN and lateral < HARDLY and lead < HARDLY:
        return []
    if square.marks is not None:
        # The localiser finds lungs in one negative of eight, and the grey levels of a chest are reversed there.
        if likeness < 0 and has_lungs(network_input(~image)):
            return ["inverted"]
        return ["mirrored"] if is_mirrored(square, lead) else []
    ranks = ranked(image)
    # A turned image correlates with CHEST turned in the same way.
    upright, left, under, right = (correlation(ranks, np.rot90(CHEST, turns)) for turns in range(4))
    # A frontal radiograph whose lungs are white or cut.
    seems_frontal = upright + symmetry(ranks) > FRONTAL
    if lateral > (SURE if seems_frontal else 0):
        return ["lateral"]
    if seems_frontal:
        return []
    ways = {
        "turned": max((left, np.rot90(seen, -1)), (right, np.rot90(seen)), key=lambda way: way[0]),
        "upside-down": (under, np.rot90(seen, 2)),
        "inverted": (-upright, network_input(~image)),
    }
    name, (fit, other) = max(ways.items(), key=lambda way: way[1][0])
    if fit > max(FITS, upright + BETTER) or (fit > upright and has_lungs(other)):
        return [name]
    return ["not-frontal"]


def is_mirrored(square: Square, lead: float) -> bool:
    """Return whether an upright frontal radiograph shows the heart and its surroundings on the wrong side.

    The localiser expects the heart on the right of the image, and sees it there more often than not: in a mirror image,
    it sees it farther to the right once that is mirrored back.

    Args:
        square: An image with lung fields.
        lead: The lead by the classifier; see `mirrored_lead`.
    """
    offset = heart_offset(square.masks)
    if offset > HEART or lead < HARDLY:
        return False
    gain = heart_offset(find_masks(network(), square.input[:, ::-1])) - offset
    return lead + GAIN * gain > MIRRORED


def heart_offset(masks: Mask) -> float:
    """Return the distance of the heart from the middle of the lungs to the image's right, as a share of their width."""
    right, left, heart = (mask.sum(axis=0) for mask in masks)
    if not (right.any() and left.any() and heart.any()):
        return 0.0
    start, end = np.flatnonzero(right)[0], np.flatnonzero(left)[-1]
    centre = (heart * np.arange(len(heart))).sum() / heart.sum()
    return float((centre - (start + end) / 2) / (abs(end - start) + 1))


def ranked(image: Grey) -> Values:
    """Return the ranks (SIDE, SIDE) of an image without its empty border: they do not depend on window or exposure."""
    from PIL import Image

    rows, columns = (np.flatnonzero(image.std(axis) > EMPTY) for axis in (1, 0))
    if len(rows) and len(columns):
        image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = np.asarray(Image.fromarray(image).convert("F").resize((SIDE, SIDE), Image.Resampling.BOX))
    return small.ravel().argsort(kind="stable").argsort().reshape(SIDE, SIDE).astype(np.float64)


def correlation(first: Values, second: Values) -> float:
    """Return the Pearson correlation of two images of the same shape."""
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-12))


def symmetry(image: Values) -> float:
    """Return the correlation of an image with its mirror image, maximal over the vertical axes near its middle."""
    parts = (image[:, max(0, shift) : SIDE + min(0, shift)] for shift in SHIFTS)
    return max(correlation(part, part[:, ::-1]) for part in parts)


def chest() -> Values:
    """Return a template of frontal chest radiographs, (SIDE, SIDE), designed by hand."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE

    def spot(across: float, down: float, width: float, height: float) -> Values:
        return np.asarray(np.exp(-(((x - across) / width) ** 2) - ((y - down) / height) ** 2))

    abdomen, mediastinum = 0.45 * spot(0.5, 1, 0.45, 0.38), 0.3 * spot(0.52, 0.5, 0.09, 9)
    lungs = 0.35 * (spot(0.32, 0.36, 0.11, 0.26) + spot(0.68, 0.36, 0.11, 0.26))
    shoulders = 0.1 * (spot(0.15, 0.4, 0.12, 0.3) + spot(0.85, 0.4, 0.12, 0.3))
    above_them = 0.35 * (spot(0.1, 0, 0.35, 0.1) + spot(0.9, 0, 0.35, 0.1))
    return abdomen + mediastinum + shoulders - lungs - above_them


CHEST = chest()
