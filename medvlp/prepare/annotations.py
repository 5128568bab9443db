"""What a source of drawn annotations is: boxes and masks of objects in an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Box(NamedTuple):
    """An object, in pixels of the original image.

    Attributes:
        name: What it is.
        x1: Left.
        y1: Top.
        x2: Right, exclusive.
        y2: Bottom, exclusive.
        phrase: The words of a report that it shows, where annotators boxed phrases.
    """

    name: str
    x1: float
    y1: float
    x2: float
    y2: float
    phrase: str | None = None

    def at(self, x1: float, y1: float, x2: float, y2: float) -> Box:
        """Return this object at another place."""
        return self._replace(x1=x1, y1=y1, x2=x2, y2=y2)


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
    for box in boxes:
        left, top, right, bottom = max(box.x1, 0), max(box.y1, 0), min(box.x2, width), min(box.y2, height)
        if left < right and top < bottom:
            kept.append(box.at(left, top, right, bottom))
        else:
            outside.append(box.name)
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
