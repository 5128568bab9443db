"""Boxes that a table lists, and the masks they fill."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medvlp.prepare.annotations import Annotation, Box
from medvlp.prepare.dataset import LeftOutError
from medvlp.prepare.shapes import rectangle


def boxes_text(boxes: Iterable[Box]) -> str:
    """Return boxes as the `annotation` of a `medvlp.prepare.dataset.Picture`, for `Boxes`."""
    return json.dumps([list(box) for box in boxes])


@dataclass(frozen=True)
class Boxes:
    """Reads what `boxes_text` wrote.

    Attributes:
        masks: Whether the pixels in the boxes are a mask.
        side: Side in pixels of the square images that the boxes were drawn in, if the images at hand are copies of
            another size.
    """

    masks: bool
    side: int | None = None

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the boxes in pixels of the image; see `medvlp.prepare.annotations.AnnotationSource`.

        Raises:
            LeftOutError: If `side` is not known and a box reaches beyond the image by more than a pixel: all may have
                been drawn in an image of another size.
        """
        scale_x, scale_y = (1.0, 1.0) if self.side is None else (width / self.side, height / self.side)
        boxes: list[Box] = [
            (name, x1 * scale_x, y1 * scale_y, x2 * scale_x, y2 * scale_y) for name, x1, y1, x2, y2 in json.loads(text)
        ]
        if self.side is None and any(x2 > width + 1 or y2 > height + 1 for *_, x2, y2 in boxes):
            raise LeftOutError("box beyond the image; see --annotation_size")
        if not self.masks:
            return Annotation(boxes)
        mask = np.zeros((height, width), np.bool_)
        for _, *corners in boxes:
            rectangle(mask, *corners)
        return Annotation(boxes, mask)
