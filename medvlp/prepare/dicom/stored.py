"""The stored values of the pixels of a DICOM file.

Source: DICOM PS3.5, 8 (cells, and the place of a sample in its cell) and A.4 (encapsulated pixels).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom.codecs import RLE, by_pydicom, decompress
from medvlp.prepare.dicom.elements import Content, join_fragments, starts_items
from medvlp.prepare.dicom.layout import FLOATS, Layout

LITTLE_ENDIAN, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
# The private syntax of GE for little-endian elements with big-endian pixels.
SWAPPED = "1.2.840.113619.5.2"


def read_samples(content: Content, layout: Layout) -> npt.NDArray[Any]:
    """Return the stored values of the pixels, (rows, columns) or (rows, columns, 3); colours of 8 bits are RGB.

    Raises:
        LeftOutError: If the pixels are incomplete, or cannot be decompressed.
    """
    samples = layout.rows * layout.columns * layout.samples
    if content.pixels in FLOATS:
        dtype = FLOATS[content.pixels].newbyteorder("<" if content.little_endian else ">")
        data = _whole(content.read(samples * dtype.itemsize), samples * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(layout.rows, layout.columns)
    head = content.read(8)
    # Some files name a compression and have none, and the other way round.
    if starts_items(head):
        frame = join_fragments(head + content.read_rest())
        values = decompress(frame, content.syntax, layout)
        return align(values, layout, cells=content.syntax == RLE)
    if layout.samples == 3 and layout.planar is None:
        raise LeftOutError("unreadable image: DICOM without PlanarConfiguration")
    # In YBR_FULL_422 two pixels share their colour.
    needed = 2 * samples // 3 if layout.photometric == "YBR_FULL_422" else samples
    size = -(-needed * layout.allocated // 8)
    data = _whole((head + content.read(size + size % 2))[: content.length], size)
    syntax = LITTLE_ENDIAN if content.little_endian and content.syntax != SWAPPED else BIG_ENDIAN
    return align(by_pydicom(data, syntax, layout, pixel_vr=content.vr), layout, cells=True)


def align(values: npt.NDArray[Any], layout: Layout, *, cells: bool) -> npt.NDArray[Any]:
    """Return values of samples from the content of their cells: samples may lie above bit 0, and below other bits.

    Args:
        values: Content of the cells, of the type of the samples.
        layout: Layout of the pixels.
        cells: Whether bits beside the sample are foreign, such as overlays. Those of decompressed values are not.

    Raises:
        LeftOutError: If bits are set where the header places none.
    """
    stored, size = layout.stored, 8 * values.dtype.itemsize
    if stored >= size or layout.allocated == 1:
        return values
    high = stored - 1 if layout.high is None else layout.high
    below = high + 1 - stored
    end = 1 << (stored - layout.signed)
    at_bottom = -end * layout.signed <= int(values.min()) and int(values.max()) < end
    # Some files whose samples begin at bit 0 have another HighBit: their values are small, and use the lowest bits.
    if 0 < below <= size - stored and not (at_bottom and np.bitwise_or.reduce(values, axis=None) % (1 << below)):
        values = values << (size - 1 - high) >> (size - stored) if cells else values >> below
    elif cells and not at_bottom:
        if below != 0:
            raise LeftOutError(f"unreadable image: its HighBit is {high}, and its BitsStored {stored}")
        values = values << (size - stored) >> (size - stored)
    return values


def _whole(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise LeftOutError("truncated image")
    return data
