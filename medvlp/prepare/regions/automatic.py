"""Anatomical boxes from the image itself: an atlas of the chest, fitted to the lung fields."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.regions.atlas import Atlas, Axis
from medvlp.prepare.regions.lung_fields import Landmarks, find_masks, landmarks, network_input
from medvlp.prepare.regions.network import Network
from medvlp.prepare.regions.source import Region
from medvlp.prepare.regions.square import DATA, Square, network
from medvlp.prepare.study import Picture, Skip

# Values of the command line option.
Regions = Literal["automatic", "none"]
# x1, y1, x2, y2 of each region, in shares of the image.
Boxes = dict[str, tuple[float, float, float, float]]
# First words of the views that show the chest from the front or the back.
FRONTAL = ("PA", "AP", "FRONTAL")
# Least share of a side of a box that lies in the image; other boxes are dropped.
LEAST_INSIDE = 0.25


class Automatic:
    """The boxes of the 29 regions in a frontal chest radiograph.

    Attributes:
        name: Name of the source and of its data in the manifest.
    """

    def __init__(self) -> None:
        """Look up which data there are; they are read where they are first needed."""
        self.name = f"automatic, localiser {hashlib.sha256(DATA.read_bytes()).hexdigest()[:12]}"

    def find(self, picture: Picture, square: Square, skip: Skip) -> list[Region]:
        """Return the boxes of the regions, cut to the image; see `RegionSource.find`."""
        if not (picture.view or "").startswith(FRONTAL):
            raise LeftOutError("no automatic regions in other than frontal views")
        if square.marks is None:
            raise LeftOutError("no lung fields found")
        boxes = localiser().boxes(square.marks)
        left, top, right, bottom = square.geometry.filled
        width, height = right - left, bottom - top
        regions: list[Region] = []
        for name, box in boxes.items():
            x1, y1, x2, y2 = (round(share * length, 2) for share, length in zip(box, (width, height) * 2, strict=True))
            regions.append((name, x1 + left, y1 + top, x2 + left, y2 + top))
        return regions


def finder(regions: Regions) -> Automatic | None:
    """Return what finds the regions that the option asks for; None for none."""
    return Automatic() if regions == "automatic" else None


@dataclass(frozen=True)
class Localiser:
    """The way from pixels to boxes.

    Attributes:
        network: Segments the lung fields and the heart.
        atlas: Maps landmarks on them to the boxes of the regions.
    """

    network: Network
    atlas: Atlas

    def find(self, pixels: npt.NDArray[np.uint8]) -> Boxes | None:
        """Return the boxes of the regions in a frontal image (rows, columns); None if it shows no lung fields."""
        marks = landmarks(find_masks(self.network, network_input(pixels)))
        return None if marks is None else self.boxes(marks)

    def boxes(self, marks: Landmarks) -> Boxes:
        """Return the boxes of the regions, cut to the image; those outside of it are dropped.

        Args:
            marks: Landmarks on the lung fields and the heart.
        """
        boxes = self.atlas(marks)
        cut = boxes.clip(0, 1)
        inside = ((cut[:, 2:] - cut[:, :2]) > LEAST_INSIDE * (boxes[:, 2:] - boxes[:, :2])).all(axis=1)
        return {
            name: tuple(box) for name, box, keep in zip(self.atlas.names, cut.tolist(), inside, strict=True) if keep
        }


@lru_cache(maxsize=1)
def localiser() -> Localiser:
    """Return the localiser of this package; each process reads it once."""
    with np.load(DATA) as arrays:
        x, y = (Axis(*(arrays[f"{axis}.{part}"] for part in ("mean", "spread", "weights"))) for axis in "xy")
        return Localiser(network(), Atlas(arrays["names"].tolist(), x, y))
