"""The decoding of a DICOM file into grey pixels, as a display would show them.

Source: DICOM PS3.3, C.7.9 (palette) and C.11.6 (presentation LUT shape).
"""

from __future__ import annotations

from io import BufferedReader
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom.display import TAGS as OF_DISPLAY
from medvlp.prepare.dicom.display import display, is_padding
from medvlp.prepare.dicom.elements import HEAD, code, find_start, read_content
from medvlp.prepare.dicom.layout import PALETTE, read_layout
from medvlp.prepare.dicom.layout import TAGS as OF_LAYOUT
from medvlp.prepare.dicom.stored import read_samples
from medvlp.prepare.pixels import colour_to_grey
from medvlp.prepare.source import Source, open_source

if TYPE_CHECKING:
    from pydicom import Dataset

PALETTES = [
    f"{start}{colour}PaletteColorLookupTable{end}"
    for colour in ("Red", "Green", "Blue")
    for start, end in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
]
# The elements that are read beside the pixels: a broken element elsewhere does no harm.
TAGS = [*OF_LAYOUT, *OF_DISPLAY, *PALETTES, "PresentationLUTShape"]


def is_dicom(file: BufferedReader) -> bool:
    """Return whether the content of a file, open at its beginning, is DICOM."""
    return find_start(file.peek(HEAD)[:HEAD]) is not None


def read_dicom(source: Source, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Return the image of a DICOM file as grey pixels, uint8 (rows, columns), 0 is black.

    The values go through the modality LUT or rescale, and the first VOI LUT or window. Without a VOI LUT or window, 8
    bits stay unchanged, and more are scaled from the range of the image, without a few values far from all others; see
    `medvlp.prepare.pixels.scale_to_bytes`. MONOCHROME1 is inverted. Padding is black, and colour becomes luma.

    Args:
        source: Path of the file, or its content.
        max_pixels: Greatest number of pixels; a larger image counts as a decompression bomb.

    Raises:
        LeftOutError: If it is truncated or damaged, not a single image of grey or colour, or no decoder is installed.
        Exception: Any error of the parser for a broken file.
    """
    with open_source(source) as file:
        content = read_content(file, TAGS)
        ds = content.elements
        layout = read_layout(ds, max_pixels, content.pixels)
        stored = read_samples(content, layout)
    if layout.samples == 3:
        return colour_to_grey(stored, luma=layout.photometric.startswith("YBR") and stored.dtype != np.uint8)
    if layout.photometric == PALETTE:
        return look_up_colours(stored, ds)
    padding = is_padding(stored, ds, content.pixels)
    if padding.any() and not padding.all():
        stored = np.where(padding, stored[~padding][0], stored)  # A value of the image proper: its range stays.
    keep = layout.stored == 8 and not layout.signed
    grey = display(stored, ds, keep=keep, little_endian=content.little_endian)
    return np.where(padding, np.uint8(0), ~grey if is_inverted(ds, layout.photometric) else grey)


def is_inverted(ds: Dataset, photometric: str) -> bool:
    """Return whether the lowest values are white. Where both are there, the presentation LUT shape decides."""
    shape = code(ds, "PresentationLUTShape")
    return shape == "INVERSE" if shape in ("IDENTITY", "INVERSE") else photometric == "MONOCHROME1"


def look_up_colours(stored: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.uint8]:
    """Return the luma of the colours of a palette.

    Raises:
        LeftOutError: If the palette is incomplete.
    """
    from pydicom.pixels.processing import apply_color_lut

    try:
        colours = apply_color_lut(stored, ds)[..., :3]
    except Exception:  # noqa: BLE001  (pydicom raises any exception for a broken table)
        raise LeftOutError("unreadable image: the palette of the DICOM file is incomplete") from None
    if colours.dtype == np.uint16:
        # Some palettes of 16 bits have entries of 8.
        colours = (colours // 257 if colours.max() > 255 else colours).astype(np.uint8)
    return colour_to_grey(colours)
