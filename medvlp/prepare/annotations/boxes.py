"""The boxes of a table: their corners, their text in the plan, and the masks that they fill."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation, Box
from medvlp.prepare.annotations.shapes import rectangle


def read_corners(fields: Iterable[str | float], sized: bool) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a box that a table or a list has as four numbers.

    Args:
        fields: Texts or numbers: left, top, and then width and height, or right and bottom.
        sized: Whether it has width and height.

    Raises:
        ValueError: If they are no four finite numbers, or the box has no area.
    """
    try:
        x1, y1, x2, y2 = map(float, fields)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("not a box") from None
    x2, y2 = (x1 + x2, y1 + y2) if sized else (x2, y2)
    if not (math.isfinite(x1 + y1 + x2 + y2) and x1 < x2 and y1 < y2):
        raise ValueError("not a box")
    return x1, y1, x2, y2


def boxes_text(boxes: Iterable[Box]) -> str:
    """Return boxes as the `annotation` of a `medvlp.prepare.study.Picture`, for `Boxes`."""
    return json.dumps([list(box) for box in boxes])


@dataclass(frozen=True)
class Boxes:
    """The reader of texts of `boxes_text`.

    Attributes:
        masks: Whether the pixels in the boxes are a mask.
        side: Side in pixels of the annotated images, which are squares; None for the size of the images at hand.
        advice: What to know where a box reaches beyond an image at hand.
    """

    masks: bool
    side: int | None = None
    advice: str = "see --annotation_size"

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the boxes in pixels of the image; see `medvlp.prepare.annotations.contract.AnnotationSource`.

        Raises:
            LeftOutError: If `side` is None and a box reaches beyond the image by more than a pixel: the annotated image
                may have had another size.
        """
        scale_x, scale_y = (1.0, 1.0) if self.side is None else (width / self.side, height / self.side)
        drawn = [Box(*fields) for fields in json.loads(text)]
        boxes = [b.at(b.x1 * scale_x, b.y1 * scale_y, b.x2 * scale_x, b.y2 * scale_y) for b in drawn]
        if self.side is None and any(box.x2 > width + 1 or box.y2 > height + 1 for box in boxes):
            raise LeftOutError(f"box beyond the image; {self.advice}")
        if not self.masks:
            return Annotation(boxes)
        mask = np.zeros((height, width), np.bool_)
        for box in boxes:
            rectangle(mask, box.x1, box.y1, box.x2, box.y2)
        return Annotation(boxes, mask)
