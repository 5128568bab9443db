"""How a DICOM file stores its pixels.

Source: DICOM PS3.3, C.7.6.3 (image pixels) and C.7.6.24 (floating-point pixels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom.elements import code, number, value

if TYPE_CHECKING:
    from pydicom import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE_COLOR"
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# The photometric interpretations, also without the signs that some writers leave out.
PHOTOMETRIC = {name.replace("_", ""): name for name in (*GREY, PALETTE, *COLOURS)}
CELLS = (1, 8, 16, 32, 64)
FLOATS: dict[str, np.dtype[Any]] = {"FloatPixelData": np.dtype("f4"), "DoubleFloatPixelData": np.dtype("f8")}
NEEDED = ["BitsAllocated", "BitsStored", "PhotometricInterpretation", "PixelRepresentation", "SamplesPerPixel"]
TAGS = [*NEEDED, "Columns", "HighBit", "NumberOfFrames", "PlanarConfiguration", "Rows"]


@dataclass(frozen=True)
class Layout:
    """How the header of a DICOM file describes its pixels.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Samples of a pixel, 1 or 3.
        photometric: Photometric interpretation, one of GREY, COLOURS or PALETTE.
        allocated: Bits of the cell of a sample, one of CELLS.
        stored: Bits of a sample.
        high: Number of the highest bit of a sample in its cell; None if it is not given.
        signed: Whether samples are signed.
        planar: Whether the planes of the samples follow each other; None if it is not given.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high: int | None
    signed: bool
    planar: bool | None

    def options(self) -> dict[str, Any]:
        """Return the layout as options of pydicom's decoders. Cells come whole, and colours of 8 bits as RGB."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            "samples_per_pixel": self.samples,
            "photometric_interpretation": self.photometric.replace(PALETTE, "PALETTE COLOR"),
            "bits_allocated": self.allocated,
            "bits_stored": self.stored,
            "pixel_representation": int(self.signed),
            "planar_configuration": int(bool(self.planar)),
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
            "correct_unused_bits": False,
            "as_rgb": self.allocated == 8,
        }


def read_layout(ds: Dataset, max_pixels: int, pixels: str) -> Layout:
    """Return the layout of the pixels.

    Args:
        ds: Data set with the elements of TAGS.
        max_pixels: Greatest number of pixels; a larger image counts as a decompression bomb.
        pixels: Keyword of the element of the pixels; empty if there is none.

    Raises:
        LeftOutError: If an element is missing or wrong, or the layout is of a kind that is not read.
    """
    rows, columns, frames = (int(number(ds, name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    if rows <= 0 or columns <= 0:
        raise LeftOutError("unreadable image: DICOM without pixels")
    if rows * columns > max_pixels:
        raise LeftOutError("unreadable image: too many pixels, perhaps a decompression bomb")
    if frames > 1:
        raise LeftOutError(f"unreadable image: {frames} frames. Save the wanted one as a file of its own")
    if not pixels:
        raise LeftOutError("truncated image")
    for name in NEEDED[-1:] if pixels in FLOATS else NEEDED:
        if value(ds, name) is None:
            raise LeftOutError(f"unreadable image: DICOM without {name}")
    photometric = code(ds, "PhotometricInterpretation") or GREY[1]
    photometric = PHOTOMETRIC.get(photometric.replace("_", ""), photometric)
    samples, allocated, stored = (
        int(number(ds, name) or 0) for name in ("SamplesPerPixel", "BitsAllocated", "BitsStored")
    )
    high, signed, planar = (number(ds, name) for name in ("HighBit", "PixelRepresentation", "PlanarConfiguration"))
    if pixels in FLOATS:
        allocated = stored = 8 * FLOATS[pixels].itemsize
    if photometric not in (COLOURS if samples == 3 else (*GREY, PALETTE) if samples == 1 else ()):
        raise LeftOutError(
            f"unreadable image: its PhotometricInterpretation is {photometric}, of {samples} samples a pixel"
        )
    if allocated not in CELLS:
        advice = "Convert the file to 16, with its pixels not packed"
        raise LeftOutError(f"unreadable image: its BitsAllocated is {allocated}. {advice}")
    if not 0 < stored <= allocated:
        raise LeftOutError(f"unreadable image: its BitsStored is {stored}, of BitsAllocated {allocated}")
    return Layout(
        rows,
        columns,
        samples,
        photometric,
        allocated,
        stored,
        None if high is None else int(high),
        bool(signed),
        None if planar is None else bool(planar),
    )
