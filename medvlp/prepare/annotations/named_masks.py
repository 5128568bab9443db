"""Objects of several labels as run-length codes: masks of the first label, and boxes of all.

A code is that of SIIM-ACR, `medvlp.run_lengths`; -1 stands for no object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation, Box
from medvlp.run_lengths import EMPTY, decode


def read_code(fields: Sequence[str]) -> str | None:
    """Return the code of a row, None if it stands for no object: for `annotations.objects.group_objects`.

    Args:
        fields: The code and the fault of the row; the fault may be missing or empty.

    Raises:
        LeftOutError: If the row has no code, or a fault.
    """
    code, *faults = (field.strip() for field in fields)
    if any(faults) or not code:
        raise LeftOutError(next(filter(None, faults), "unreadable row: no run-length code"))
    return None if code == EMPTY else code


def outline(codes: Iterable[str], label: str, side: int | None, height: int, width: int) -> Annotation:
    """Return the mask of the objects of one label, and a box around each.

    Args:
        codes: Their codes.
        label: The label.
        side: Side in pixels of the annotated image, a square; None for the size of the image at hand.
        height: Height of the image at hand in pixels.
        width: Its width.

    Raises:
        LeftOutError: If a code cannot be read, or has no pixels.
    """
    rows, columns = (height, width) if side is None else (side, side)
    mask = np.zeros((rows, columns), np.bool_)
    boxes: list[Box] = []
    for code in codes:
        try:
            part = decode(code, rows, columns)
        except ValueError as error:
            raise LeftOutError(f"unreadable run-length code: {error}") from None
        ys, xs = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
        if not len(xs):
            raise LeftOutError("unreadable run-length code: no pixels")
        mask |= part
        x1, x2, y1, y2 = xs[0] * width, (xs[-1] + 1) * width, ys[0] * height, (ys[-1] + 1) * height
        boxes.append(Box(label, float(x1 / columns), float(y1 / rows), float(x2 / columns), float(y2 / rows)))
    return Annotation(boxes, mask)


@dataclass(frozen=True)
class NamedMasks:
    """The reader; see `medvlp.prepare.annotations.contract.AnnotationSource`.

    Attributes:
        side: Side in pixels of the annotated images, which are squares; None for the size of the images at hand.
    """

    side: int | None
    masks: bool = True

    @staticmethod
    def write(codes: Mapping[str, Sequence[str]]) -> str:
        """Return the text of `Picture.annotation`.

        Args:
            codes: Codes of each label; the masks are those of the first one.
        """
        return json.dumps(codes)

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the mask of the first label, and a box around each code; see `AnnotationSource`."""
        drawn = [outline(codes, label, self.side, height, width) for label, codes in json.loads(text).items()]
        return Annotation([box for each in drawn for box in each.boxes], drawn[0].mask)
