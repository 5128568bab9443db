"""Masks as images: read from files, compared with their image, and boxes around their connected parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation, Box
from medvlp.prepare.files import EscapesRootError, inside

Mask = npt.NDArray[np.bool_]
# Largest difference of the ratios of width and height of an image and its mask: a copy of 320 pixels is rounded.
RATIO = 0.02


def read_mask(root: Path, path: str, real_roots: Iterable[str]) -> Mask:
    """Return a mask, bool (rows, columns): what is brighter than half of its brightest pixel, be that 1 or 255.

    Args:
        root: Folder of the masks.
        path: The file, relative to it.
        real_roots: Folders without links. The file must lie in one of them.

    Raises:
        LeftOutError: If it is missing, cannot be read, or lies elsewhere.
    """
    from PIL import Image

    try:
        with Image.open(inside(root, path, real_roots)) as image:
            grey = np.asarray(image.convert("I") if image.mode.startswith("I") else image.convert("L"))
    except FileNotFoundError:
        raise LeftOutError("missing mask") from None
    except EscapesRootError as error:
        raise LeftOutError(f"unreadable mask: {error}") from None
    except Exception as error:  # Pillow raises any exception for a damaged file.
        raise LeftOutError("unreadable mask: the file is damaged") from error
    return np.asarray(grey > grey.max() / 2)


def check_ratio(mask: Mask, height: int, width: int) -> None:
    """Refuse a mask of another image. It may be of a copy of another size.

    Args:
        mask: The mask, bool (rows, columns).
        height: Height of the image in pixels.
        width: Its width.

    Raises:
        LeftOutError: If its aspect ratio is not that of the image.
    """
    rows, columns = mask.shape
    if abs(columns * height / (rows * width) - 1) > RATIO:
        raise LeftOutError(f"mask of another image: {columns} x {rows} pixels, image of {width} x {height}")


def boxes_around(mask: Mask, name: str, height: int, width: int) -> list[Box]:
    """Return a box around each connected part of a mask; pixels that touch at a corner are connected.

    Args:
        mask: The mask, bool (rows, columns), of the image or of a copy of another size.
        name: Name of the boxes.
        height: Height of the image in pixels, to which the boxes refer.
        width: Its width.
    """
    import cv2

    rows, columns = mask.shape
    _, _, parts, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask).view(np.uint8), connectivity=8)
    return [
        Box(name, x * width / columns, y * height / rows, (x + w) * width / columns, (y + h) * height / rows)
        for x, y, w, h, _ in parts[1:].tolist()
    ]


@dataclass(frozen=True)
class MaskFiles:
    """The reader of masks in files; see `medvlp.prepare.annotations.contract.AnnotationSource`.

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
        present, _, path = text.partition(" ")
        mask = read_mask(self.root, path, self.real_roots)
        check_ratio(mask, height, width)
        if mask.any() != (present == "1"):
            raise LeftOutError("the mask contradicts the table")
        return Annotation(boxes_around(mask, self.label, height, width), mask)
