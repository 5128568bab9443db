"""The lung fields and the heart of a frontal chest radiograph, and the landmarks on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medvlp.prepare.regions.network import LOGIT_ZERO, Network

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

# Outputs of the network. A lung is the whole half of the chest, including the part behind the heart and in fluid.
STRUCTURES = ("right lung", "left lung", "heart")
# Side in pixels of the input of the network, and of the masks.
INPUT_SIDE, MASK_SIDE = 64, 128
# Number of bands along the height and along the width of a lung; each band gives a landmark on its edge.
ROW_BANDS, COLUMN_BANDS = 5, 4
# Least size of a structure: share of the side of the image, share of its box, share of its pixels in the box.
LEAST_SIDE, LEAST_FILL, LEAST_WHOLE = 0.12, 0.35, 0.8
# Least area of the smaller lung as a share of the larger one, and least common height as a share of the smaller one.
LEAST_RATIO, LEAST_LEVEL = 0.25, 0.5


def network_input(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the input of the network: an image of any shape, squashed to a square, with an equalised histogram.

    The result does not depend on the contrast and gamma of the archive.
    """
    from PIL import Image

    size = (INPUT_SIDE, INPUT_SIDE)
    small = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR))
    total = np.cumsum(np.bincount(small.ravel(), minlength=256))
    darkest = total[small.min()]
    table = np.maximum(total - darkest, 0) * 255 // max(int(total[-1] - darkest), 1)
    return np.asarray(table.astype(np.uint8)[small])


def find_masks(network: Network, seen: npt.NDArray[np.uint8]) -> Mask:
    """Return the masks (3, MASK_SIDE, MASK_SIDE) of the structures in an image, squashed to a square.

    Args:
        network: The network.
        seen: Its input, see `network_input`, or that turned or mirrored.
    """
    from PIL import Image

    size = (MASK_SIDE, MASK_SIDE)
    maps = [Image.fromarray(np.ascontiguousarray(likely)) for likely in network(seen)]
    return np.stack([np.asarray(likely.resize(size, Image.Resampling.BILINEAR)) > LOGIT_ZERO for likely in maps])


@dataclass(frozen=True)
class Landmarks:
    """The ends of the structures, in shares of the width or height of the image.

    Attributes:
        x: Horizontal positions, the right lung first.
        y: Vertical positions.
        frame: Left, top, width and height of both lungs together.
    """

    x: Points
    y: Points
    frame: tuple[float, float, float, float]


def landmarks(masks: Mask) -> Landmarks | None:
    """Return the landmarks on masks of the structures; None if these are not two lungs with a heart between them."""
    parts = [_largest(mask) for mask in masks]
    areas = [int(mask.sum()) for mask, _ in parts]
    side = masks.shape[-1]
    for area, (_, (x1, y1, x2, y2)), mask in zip(areas, parts, masks, strict=True):
        width, height = x2 - x1, y2 - y1
        if min(width, height) < LEAST_SIDE * side or area < max(LEAST_FILL * width * height, LEAST_WHOLE * mask.sum()):
            return None
    (right, (right_x1, right_y1, right_x2, right_y2)), (left, (left_x1, left_y1, left_x2, left_y2)), (_, heart) = parts
    level = min(right_y2, left_y2) - max(right_y1, left_y1)
    if (
        min(areas[:2]) < LEAST_RATIO * max(areas[:2])
        or level < LEAST_LEVEL * min(right_y2 - right_y1, left_y2 - left_y1)
        or not right_x1 + right_x2 < heart[0] + heart[2] < left_x1 + left_x2
    ):
        return None
    # The left lung is mirrored, so that both have their outer edge first, and its positions are mirrored back.
    x = [*_across(right), *(side - place for place in _across(left[:, ::-1])), heart[0], heart[2]]
    y = [*_down(right), *_down(left[:, ::-1]), heart[1], heart[3]]
    top, bottom = (right_y1 + left_y1) / 2, (right_y2 + left_y2) / 2
    frame = (right_x1 / side, top / side, (left_x2 - right_x1) / side, (bottom - top) / side)
    return Landmarks(np.array(x) / side, np.array(y) / side, frame)


def _largest(mask: Mask) -> tuple[Mask, tuple[int, int, int, int]]:
    """Return the part of a mask in its longest runs of rows and of columns, and the box around it."""
    y1, y2 = _run(mask.sum(axis=1) > 1)
    x1, x2 = _run(mask[y1:y2].sum(axis=0) > 1)
    part = np.zeros_like(mask)
    part[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return part, (x1, y1, x2, y2)


def _run(present: Mask) -> tuple[int, int]:
    """Return start and end of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]])))
    if not len(edges):
        return 0, 0
    longest = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * longest]), int(edges[2 * longest + 1])


def _across(lung: Mask) -> list[float]:
    """Return outermost point, outer edge in each band of rows, and inner edge, of a lung whose outer side is left."""
    rows = lung[lung.any(axis=1)]
    outer = rows.argmax(axis=1)
    inner = lung.shape[1] - rows[:, ::-1].argmax(axis=1)
    return [float(outer.min()), *_means(outer, ROW_BANDS), float(inner.mean())]


def _down(lung: Mask) -> list[float]:
    """Return top, bottom, and the floor in each band of columns, of a lung whose outer side is left."""
    columns = lung[:, lung.any(axis=0)]
    floor = lung.shape[0] - columns[::-1].argmax(axis=0)
    return [float(columns.any(axis=1).argmax()), float(floor.max()), *_means(floor, COLUMN_BANDS)]


def _means(edge: npt.NDArray[np.intp], bands: int) -> list[float]:
    starts = np.arange(bands) * len(edge) // bands
    means: list[float] = (np.add.reduceat(edge, starts) / np.diff(starts, append=len(edge))).tolist()
    return means
