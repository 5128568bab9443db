"""Masks that are images, a file for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation, Box
from medvlp.prepare.files import inside


@dataclass(frozen=True)
class MaskFiles:
    """The reader of masks in files; see `medvlp.prepare.annotations.AnnotationSource`.

    A text is `1 PATH` for an image with the object and `0 PATH` for one without, PATH being the file relative to root.

    Attributes:
        root: Folder of the masks.
        real_roots: Folders without links. Every mask must lie in one of them.
        label: Name of the object.
    """

    root: Path
    real_roots: Sequence[str]
    label: str
    masks: bool = True

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the mask, and a box around each connected part of it; see `AnnotationSource`."""
        import cv2

        present, _, path = text.partition(" ")
        mask = _read_mask(inside(self.root, path, self.real_roots))
        if mask.any() != (present == "1"):
            raise LeftOutError("the mask contradicts the table")
        rows, columns = mask.shape
        _, _, parts, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        boxes = [
            Box(self.label, x * width / columns, y * height / rows, (x + w) * width / columns, (y + h) * height / rows)
            for x, y, w, h, _ in parts[1:].tolist()
        ]
        return Annotation(boxes, mask)


def _read_mask(path: str) -> npt.NDArray[np.bool_]:
    """Return the pixels in the upper half of the grey values that a mask has.

    Raises:
        LeftOutError: If the file is missing or cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except FileNotFoundError:
        raise LeftOutError("missing mask") from None
    except Exception as error:  # Pillow raises any exception for a damaged file.
        raise LeftOutError("unreadable mask") from error
    # 1 or 255 stands for an object.
    return np.asarray(grey > grey.max() // 2)
