"""Annotations: boxes and masks that annotators drew, and the contract of their readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from medvlp.errors import UserError


class Box(NamedTuple):
    """An object, in pixels of the original image.

    Attributes:
        name: Name of the label or finding.
        x1: Left.
        y1: Top.
        x2: Right, exclusive.
        y2: Bottom, exclusive.
        phrase: Words of a report for this box; None if annotators did not box phrases.
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
    """The annotation of one image.

    Attributes:
        boxes: The objects; empty if annotators saw none.
        mask: Pixels of all objects, bool (height, width) of the original, or of a copy of another size. None in a data
            set without masks.
    """

    boxes: list[Box]
    mask: npt.NDArray[np.bool_] | None = None


def cut_boxes(boxes: Iterable[Box], x1: float, y1: float, x2: float, y2: float) -> tuple[list[Box], list[str]]:
    """Return the boxes cut to a part of the image, and the names of the boxes outside of it."""
    kept: list[Box] = []
    outside: list[str] = []
    for box in boxes:
        left, top, right, bottom = max(box.x1, x1), max(box.y1, y1), min(box.x2, x2), min(box.y2, y2)
        if left < right and top < bottom:
            kept.append(box.at(left, top, right, bottom))
        else:
            outside.append(box.name)
    return kept, outside


def annotated_side(annotation_size: int | None) -> int | None:
    """Return the side in pixels of annotated squares, as an option gives it; None for that of the images at hand.

    Raises:
        UserError: If it is below 1.
    """
    if annotation_size is not None and annotation_size < 1:
        raise UserError(f"--annotation_size={annotation_size} must be at least 1.")
    return annotation_size


class AnnotationSource(Protocol):
    """The reader of the annotations of a data set. It is pickled into the worker processes."""

    @property
    def masks(self) -> bool:
        """Whether its annotations have masks, so that a prepared folder has masks.npy."""

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the annotation of an image.

        Args:
            text: `Picture.annotation`.
            height: Height of the original image in pixels.
            width: Width of the original image in pixels.

        Raises:
            LeftOutError: If it cannot be read. The image is then skipped: it would count as one without objects.
        """
