"""The contract of a source of anatomical boxes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from medvlp.prepare.regions.square import Square
from medvlp.prepare.study import Picture, Skip

# Name, x1, y1, x2, y2 in pixels of the prepared image.
Region = tuple[str, float, float, float, float]


class RegionSource(Protocol):
    """A finder of the anatomical boxes of images. It is pickled into the worker processes."""

    @property
    def name(self) -> str:
        """Name of the source and of its data in the manifest."""

    def find(self, picture: Picture, square: Square, skip: Skip) -> list[Region]:
        """Return the boxes of one image, cut to it. Several may have the same name.

        Args:
            picture: The facts about the image in the tables.
            square: The prepared image.
            skip: Called with the name of each box that cannot be used, and the reason.

        Raises:
            LeftOutError: If this image has no boxes.
        """


def region_options(source: RegionSource | None) -> dict[str, object]:
    """Return what `DataSet.options` says of the finder of a data set; None finds none."""
    return {"regions": source.name if source else "none"}


def joined(regions: Iterable[Region]) -> list[Region]:
    """Join the boxes of one name, in the place of the first."""
    boxes: dict[str, Region] = {}
    for name, x1, y1, x2, y2 in regions:
        _, a, b, c, d = boxes.get(name, (name, x1, y1, x2, y2))
        boxes[name] = (name, min(x1, a), min(y1, b), max(x2, c), max(y2, d))
    return list(boxes.values())
