"""The grey levels that a display shows for the stored values of a DICOM file.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT and window) and C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom.elements import code, number, value
from medvlp.prepare.pixels import scale_to_bytes

if TYPE_CHECKING:
    from pydicom import Dataset

TAGS = [
    "DoubleFloatPixelPaddingRangeLimit",
    "DoubleFloatPixelPaddingValue",
    "FloatPixelPaddingRangeLimit",
    "FloatPixelPaddingValue",
    "ModalityLUTSequence",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
]
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def is_padding(stored: npt.NDArray[Any], ds: Dataset, pixels: str) -> npt.NDArray[np.bool_]:
    """Return the mask of stored values outside of the image proper.

    Args:
        stored: Stored values.
        ds: Data set with the elements of TAGS.
        pixels: Keyword of the element of the pixels, PixelData or one of its floating-point kinds.
    """
    stem = pixels.removesuffix("Data") + "Padding"
    first, limit = number(ds, f"{stem}Value"), number(ds, f"{stem}RangeLimit")
    if first is None:
        return np.zeros(stored.shape, np.bool_)
    ends = [first, first if limit is None else limit]
    if stored.dtype.kind in "iu":
        # Signed values may be written as unsigned ones, and unsigned ones as signed.
        bits = np.iinfo(stored.dtype)
        ends = [end + (end < bits.min) * 2.0**bits.bits - (end > bits.max) * 2.0**bits.bits for end in ends]
    return np.asarray((stored >= min(ends)) & (stored <= max(ends)))


def display(stored: npt.NDArray[Any], ds: Dataset, *, keep: bool, little_endian: bool) -> npt.NDArray[np.uint8]:
    """Return stored values as grey levels, before inversion.

    Args:
        stored: Stored values.
        ds: Data set with the elements of TAGS.
        keep: Whether values without rescale, LUT and window are grey levels already.
        little_endian: Order of the bytes of the data set.

    Raises:
        LeftOutError: If an element is damaged.
    """
    slope, intercept = number(ds, "RescaleSlope"), number(ds, "RescaleIntercept")
    centre, width = number(ds, "WindowCenter"), number(ds, "WindowWidth")
    values = stored
    if modality := _item(ds, "ModalityLUTSequence"):
        table, index = _look_up(stored, modality, little_endian)
        values = table[index]
    elif (slope, intercept) not in ((None, None), (1, 0)):
        values = stored * np.float32(slope or 1) + np.float32(intercept or 0)
    grey = None
    function = code(ds, "VOILUTFunction") or "LINEAR"
    if voi := _item(ds, "VOILUTSequence"):
        table, index = _look_up(values, voi, little_endian)
        # The range of the table, not that of its nominal bits: some tables of 12 bits claim to have 16.
        grey = scale_to_bytes(table, robust=False)[index]
    # A linear window of width 1 is a threshold, which shows no radiograph.
    elif centre is not None and width is not None and width > (function == "LINEAR"):
        grey = window(values, centre, width, function)
    # A window outside of the values shows nothing: some exports keep the window of other values.
    if grey is not None and grey.min() < grey.max():
        return grey
    if values is stored and keep:
        return values.astype(np.uint8)
    return scale_to_bytes(values)


def window(values: npt.NDArray[Any], centre: float, width: float, function: str) -> npt.NDArray[np.uint8]:
    """Return values as a window shows them; PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: Stored values after the modality LUT.
        centre: Of the window.
        width: Of the window, more than 0, and more than 1 if it is LINEAR.
        function: One of FUNCTIONS.

    Raises:
        LeftOutError: If it is another function.
    """
    position = np.nan_to_num(values.astype(np.float32)) - np.float32(centre)
    if function == "SIGMOID":
        shares = 1 / (1 + np.exp(np.clip(-4 * position / width, -80, 80)))
    elif function == "LINEAR_EXACT":
        shares = position / width + 0.5
    elif function == "LINEAR":
        shares = (position + 0.5) / (width - 1) + 0.5
    else:
        raise LeftOutError(f"unreadable image: the VOILUTFunction {function} is none of {', '.join(FUNCTIONS)}")
    return np.asarray(np.rint(255 * np.clip(shares, 0, 1)), np.uint8)


def _item(ds: Dataset, keyword: str) -> Dataset | None:
    """Return the first item of a sequence, or None if it has none."""
    items = value(ds, keyword)
    return items[0] if isinstance(items, Sequence) and len(items) else None


def _look_up(
    values: npt.NDArray[Any], item: Dataset, little_endian: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the table of a LUT, and the position of each value in it."""
    descriptor, data = value(item, "LUTDescriptor"), value(item, "LUTData")
    if not isinstance(descriptor, Sequence) or len(descriptor) != 3 or data is None:
        raise LeftOutError("unreadable image: a look-up table of the DICOM file is incomplete")
    # Signed numbers may be written as unsigned ones, and unsigned ones as signed.
    count = int(descriptor[0]) % (1 << 16) or 1 << 16
    order = "<" if little_endian else ">"
    if isinstance(data, bytes):
        table = np.frombuffer(data, np.uint8 if len(data) < 2 * count else f"{order}u2")
    else:
        table = np.atleast_1d(np.asarray(data, np.int64)).astype(np.uint16)
        if len(table) == (count + 1) // 2:
            table = table.astype(f"{order}u2").view(np.uint8)
    if len(table) < count:
        raise LeftOutError("unreadable image: a look-up table of the DICOM file is incomplete")
    table = table[:count]
    if table.dtype.itemsize == 2:
        table = _smoother(table.astype(np.uint16))
    index = np.nan_to_num(values).astype(np.int64)
    low, high = int(index.min()), int(index.max())

    def common(first: int) -> int:
        """Return the size of the range that the values share with a table."""
        return min(high, first + count - 1) - max(low, first)

    first = int(descriptor[1])
    other = first - (1 << 16) if first >= 1 << 15 else first + (1 << 16)
    if common(first) <= 0 < common(other):
        first = other
    return table, np.clip(index - first, 0, count - 1)


def _smoother(table: npt.NDArray[np.uint16]) -> npt.NDArray[np.generic]:
    """Return a table as unsigned or as signed numbers, whichever has the smaller steps."""
    signed = table.view(np.int16)
    steps = [int(np.abs(np.diff(entries.astype(np.int64))).sum()) for entries in (table, signed)]
    return table if steps[0] <= steps[1] else signed
