"""The flags of an image file: from its size, its header, its colours and its looks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from io import BufferedReader

import numpy as np

from medvlp.prepare.dicom import is_dicom
from medvlp.prepare.images import FORMATS
from medvlp.prepare.regions.square import Square
from medvlp.prepare.screening.header import TAGS, header_flags
from medvlp.prepare.screening.picture import look
from medvlp.prepare.source import Source, open_source

SMALL = 200
ELONGATED = 2.0
# Threshold of the mean difference between strongest and weakest colour of a pixel; tinted figures reach 11.
COLOUR = 16.0
# Side of the picture whose colours are compared.
SIDE = 32


def screen(source: Source, square: Square) -> list[str]:
    """Return the flags of an image, each one once.

    Args:
        source: Path of the image file, or its content.
        square: Prepared square of the image.
    """
    sides = square.geometry.height, square.geometry.width
    flags = []
    if min(sides) < SMALL:
        flags.append("small")
    if max(sides) > ELONGATED * min(sides):
        flags.append("elongated")
    return [*dict.fromkeys([*flags, *look(square), *_file_flags(source)])]


def _file_flags(source: Source) -> Iterator[str]:
    """Yield the flags of header and colours of a file whose pixels have been read."""
    with warnings.catch_warnings(), open_source(source) as file:
        warnings.simplefilter("ignore")
        if is_dicom(file):
            yield from _dicom_flags(file)
        elif _picture_in_colour(file):
            yield "colour"


def _dicom_flags(file: BufferedReader) -> Iterator[str]:
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    ds = dcmread(file, stop_before_pixels=True, specific_tags=[*TAGS, "SamplesPerPixel"], force=True)
    yield from header_flags(ds)
    try:
        if ds.get("SamplesPerPixel") == 3 and _is_colour(pixel_array(file, index=0)):
            yield "colour"
    except Exception:  # noqa: BLE001  (a broken element: the reader of pixels repairs what it can)
        return


def _picture_in_colour(file: BufferedReader) -> bool:
    from PIL import Image

    with Image.open(file, formats=FORMATS) as image:
        if Image.getmodebase(image.mode) != "RGB":
            return False
        # A JPEG is decoded at a reduced size, down to an eighth.
        image.draft("RGB", (SIDE, SIDE))
        return _is_colour(np.asarray(image.convert("RGB")))


def _is_colour(pixels: np.ndarray) -> bool:
    """Return whether pixels (H, W, 3) have colours, beyond those of a marker or a tint."""
    from PIL import Image

    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    return bool(np.ptp(np.asarray(small, np.int16), axis=2).mean() > COLOUR)
