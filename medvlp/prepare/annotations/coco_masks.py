"""Masks of several findings in one image, as run-length codes of COCO: CheXlocalize's form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation, Box
from medvlp.prepare.annotations.masks import boxes_around, check_ratio
from medvlp.run_lengths import decode_coco

# More than any radiograph has: sizes that somebody has mistyped would take all memory.
MOST_PIXELS = 1 << 28


@dataclass(frozen=True)
class CocoMasks:
    """The reader of JSON texts {word: {"size": [height, width], "counts": code}}; see `AnnotationSource`.

    A finding has a box around each connected part of its mask. masks.npy has one mask an image, so that a pixel of it
    is in the mask of any finding: which one, and where masks overlap, is lost, unless `finding` chooses one.

    Attributes:
        names: Names of the findings by their word in the texts.
        finding: The finding whose pixels the masks are; None for all.
    """

    names: Mapping[str, str]
    finding: str | None = None
    masks: bool = True

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the boxes and the mask of an image, whose masks may be of a larger copy; see `AnnotationSource`."""
        boxes: list[Box] = []
        union: npt.NDArray[np.bool_] | None = None
        masks = json.loads(text)
        if not isinstance(masks, dict):
            raise LeftOutError("unreadable masks")
        for word, code in masks.items():
            if word not in self.names:
                raise LeftOutError(f"unreadable mask: finding '{word}'")
            try:
                rows, columns = map(int, code["size"])
                if not (rows > 0 and columns > 0 and rows * columns <= MOST_PIXELS):
                    raise ValueError(f"size {columns} x {rows}")
                mask = decode_coco(code["counts"], rows, columns)
            except (KeyError, TypeError, ValueError) as error:
                raise LeftOutError(f"unreadable mask: {word}, {error}") from None
            if union is not None and union.shape != mask.shape:
                raise LeftOutError("unreadable mask: two sizes in one image")
            check_ratio(mask, height, width)
            union = np.zeros(mask.shape, np.bool_) if union is None else union
            if self.finding in (None, self.names[word]):
                union |= mask
            boxes += boxes_around(mask, self.names[word], height, width)
        return Annotation(boxes, np.zeros((height, width), np.bool_) if union is None else union)
