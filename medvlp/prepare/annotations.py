"""What a source of drawn annotations is: boxes and masks of objects in an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

# Name, x1, y1, x2, y2 in pixels of the original image; x2 and y2 exclusive.
Box = tuple[str, float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    """What annotators drew in one image.

    Attributes:
        boxes: The objects; empty where annotators found none.
        mask: The pixels of all of them, bool (height, width) of the original, or of a copy of it of another size; None
            in a data set without masks.
    """

    boxes: list[Box]
    mask: npt.NDArray[np.bool_] | None = None


def cut_boxes(boxes: Iterable[Box], height: int, width: int) -> tuple[list[Box], list[str]]:
    """Return boxes cut to an image, and the names of those of which nothing is left."""
    kept: list[Box] = []
    outside: list[str] = []
    for name, x1, y1, x2, y2 in boxes:
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
        if left < right and top < bottom:
            kept.append((name, left, top, right, bottom))
        else:
            outside.append(name)
    return kept, outside


class AnnotationSource(Protocol):
    """Reads the annotations of a data set. It is pickled into the worker processes."""

    @property
    def masks(self) -> bool:
        """Whether its annotations have masks; if so, a prepared folder has masks.npy."""

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return what an annotation says.

        Args:
            text: `Picture.annotation`.
            height: Of the original image, in pixels.
            width: Of the original image, in pixels.

        Raises:
            LeftOutError: If it cannot be read: the image is then left out, for it would count as one without objects.
        """
