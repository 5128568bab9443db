"""The decoding of a DICOM file into grey pixels, as a display would show them.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT and window), C.7.6.3.1.2 (photometric interpretation) and
C.7.5.1 (padding).
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BufferedReader
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.pixels import scale_to_bytes

if TYPE_CHECKING:
    from pydicom import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
NEEDED = ["BitsAllocated", "BitsStored", "PhotometricInterpretation", "PixelRepresentation", "SamplesPerPixel"]
# The elements that are read beside the pixels: a broken element elsewhere does no harm.
TAGS = [
    *NEEDED,
    "Columns",
    "HighBit",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PlanarConfiguration",
    "RescaleIntercept",
    "RescaleSlope",
    "Rows",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
]


def is_dicom(file: BufferedReader) -> bool:
    """Return whether the content of a file, open at its beginning, is DICOM."""
    return file.peek(132)[128:132] == b"DICM"


def read_dicom(path: str, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Return the image of a DICOM file as grey pixels, uint8 (rows, columns), 0 is black.

    The values go through the modality LUT or rescale, and the first VOI LUT or window. Without a VOI LUT or window, 8
    bits stay unchanged, and more are scaled from the range of the image. MONOCHROME1 is inverted. Padding is black.

    Args:
        path: The file.
        max_pixels: Greatest number of pixels; a larger image counts as a decompression bomb.

    Raises:
        LeftOutError: If it is truncated, or not a single image of grey or colour.
        Exception: Any error of the parser for a broken file.
    """
    from PIL import Image
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    syntax = read_file_meta_info(path).TransferSyntaxUID
    # A deflated file would be inflated, to any size, before its header can be read.
    if syntax == DeflatedExplicitVRLittleEndian or not get_decoder(syntax).is_available:
        raise LeftOutError(f"unreadable image: no decoder of {syntax.name}")
    ds = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    rows, columns, frames = (int(ds.get(name) or 0) for name in ("Rows", "Columns", "NumberOfFrames"))
    if not rows * columns:
        raise LeftOutError("unreadable image: DICOM without pixels")
    if rows * columns > max_pixels:
        raise LeftOutError("unreadable image: too many pixels, perhaps a decompression bomb")
    if frames > 1:
        raise LeftOutError(f"unreadable image: {frames} frames")
    for name in NEEDED:
        if ds.get(name) is None:
            raise LeftOutError(f"unreadable image: DICOM without {name}")
    colour = ds.SamplesPerPixel == 3
    if not colour and ds.PhotometricInterpretation not in GREY:
        raise LeftOutError(f"unreadable image: {ds.PhotometricInterpretation}")
    ds = dcmread(path, specific_tags=[*TAGS, "PixelData"])
    # pydicom returns no pixels if the end of compressed ones is missing.
    expected = 0 if syntax.is_encapsulated or colour else rows * columns * ds.BitsAllocated // 8
    if len(ds.get("PixelData") or b"") < max(1, expected):
        raise LeftOutError("truncated image")
    values = pixel_array(ds, index=0)
    if colour:
        return np.asarray(Image.fromarray(values).convert("L"))
    padding = is_padding(values, ds)
    if padding.any() and not padding.all():
        # A value of the image proper, so that padding does not change its range.
        values[padding] = values[~padding][0]
    grey = display(values, ds)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey = ~grey
    return np.where(padding, np.uint8(0), grey)


def is_padding(stored: npt.NDArray[np.integer[Any]], ds: Dataset) -> npt.NDArray[np.bool_]:
    """Return the mask of stored values outside of the image proper; PS3.3 C.7.5.1.1.2."""
    value, limit = _number(ds, "PixelPaddingValue"), _number(ds, "PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(stored.shape, np.bool_)
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((stored >= low) & (stored <= high))


def display(stored: npt.NDArray[np.generic], ds: Dataset) -> npt.NDArray[np.uint8]:
    """Return stored values as grey levels, before inversion.

    Args:
        stored: Stored values of any integer type.
        ds: Data set with the elements of TAGS.
    """
    slope, intercept = _number(ds, "RescaleSlope"), _number(ds, "RescaleIntercept")
    centre, width = _number(ds, "WindowCenter"), _number(ds, "WindowWidth")
    values = stored
    if ds.get("ModalityLUTSequence"):
        table, index = _look_up(stored, ds.ModalityLUTSequence[0])
        values = table[index]
    elif (slope, intercept) not in ((None, None), (1, 0)):
        values = stored * np.float32(slope or 1) + np.float32(intercept or 0)
    grey = None
    if ds.get("VOILUTSequence"):
        table, index = _look_up(values, ds.VOILUTSequence[0])
        # The range of the table, not that of its nominal bits: some tables of 12 bits claim to have 16.
        grey = scale_to_bytes(table)[index]
    # A width of 1 is a threshold, which shows no radiograph.
    elif centre is not None and width is not None and width > 1:
        grey = window(values, centre, width, ds.get("VOILUTFunction") or "LINEAR")
    # A window outside of the values shows nothing: some exports keep the window of other values.
    if grey is not None and grey.min() < grey.max():
        return grey
    if values is stored and values.dtype.kind == "u" and ds.BitsStored == 8:
        return values.astype(np.uint8)
    return scale_to_bytes(values)


def window(values: npt.NDArray[np.generic], centre: float, width: float, function: str) -> npt.NDArray[np.uint8]:
    """Return values as a window shows them; PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: Stored values after the modality LUT.
        centre: Of the window.
        width: Of the window, more than 1.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """
    position = values.astype(np.float32) - np.float32(centre)
    if function == "SIGMOID":
        shares = 1 / (1 + np.exp(np.clip(-4 * position / width, -80, 80)))
    elif function == "LINEAR_EXACT":
        shares = position / width + 0.5
    else:
        shares = (position + 0.5) / (width - 1) + 0.5
    return np.asarray(np.rint(255 * np.clip(shares, 0, 1)), np.uint8)


def _look_up(values: npt.NDArray[np.generic], item: Dataset) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.int64]]:
    """Return the table of a LUT, and the position of each value in it."""
    count, first, _ = item.LUTDescriptor
    count = count or 1 << 16
    data: Any = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else "<u2")
    table = np.asarray(data)[:count]
    return table, np.clip(values.astype(np.int64) - int(first), 0, len(table) - 1)


def _number(ds: Dataset, keyword: str) -> float | None:
    """Return the first value of an element, or None if it has none."""
    value = ds.get(keyword)
    if isinstance(value, Sequence):
        value = value[0] if value else None
    return None if value is None else float(value)
