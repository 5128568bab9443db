"""Decompression of the frame of a DICOM file.

pydicom with Pillow decodes JPEG of 8 bits, JPEG 2000 and RLE. Of the packages that decode JPEG Lossless, JPEG-LS and
JPEG of 12 bits, imagecodecs (BSD-3-Clause) is the one that decodes all three and raises an error for a damaged
stream: GDCM ends the process, and pydicom does not let it decode JPEG of 12 bits. The extra `dicom` installs it.

Source: ITU-T T.81, B.2.2 (frame header of JPEG), T.87 (JPEG-LS) and T.800, A.5.1 (SIZ of JPEG 2000).
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom.layout import Layout

JPEG_FRAMES: dict[int, Literal["JPEG", "JPEG Lossless", "JPEG-LS"]] = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2, 0xC9, 0xCA), "JPEG"),
    0xC3: "JPEG Lossless",
    0xF7: "JPEG-LS",
}
# Markers without a length: TEM, RST, SOI.
BARE = {0x01, *range(0xD0, 0xD9)}
# The decoders of pydicom, for users who have installed other packages.
SYNTAXES = {
    "JPEG": "1.2.840.10008.1.2.4.51",
    "JPEG Lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.91",
}
BASELINE, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
ADVICE = "Run 'pip install imagecodecs', or install the extra medvlp[dicom]"


@dataclass(frozen=True)
class Stream:
    """What a compressed frame says of itself.

    Attributes:
        kind: Its compression.
        precision: Bits of a sample.
        height: In pixels.
        width: In pixels.
        samples: Samples of a pixel.
    """

    kind: Literal["JPEG", "JPEG Lossless", "JPEG-LS", "JPEG 2000"]
    precision: int
    height: int
    width: int
    samples: int


def decompress(frame: bytes, syntax: str, layout: Layout) -> npt.NDArray[Any]:
    """Return the samples of a compressed frame, (rows, columns) or (rows, columns, 3); colours of 8 bits are RGB.

    The compression is the one that the frame itself names; the transfer syntax is needed for RLE, which names none.

    Raises:
        LeftOutError: If no decoder is installed, or the frame is damaged or of another shape than its header says.
    """
    from pydicom.encaps import encapsulate

    stream = parse_stream(frame)
    if stream is None:
        if syntax != RLE:
            raise LeftOutError(f"unreadable image: no decoder of {_name(syntax)}. Save the file without compression")
        return by_pydicom(encapsulate([frame]), RLE, layout)
    if (stream.height, stream.width, stream.samples) != (layout.rows, layout.columns, layout.samples):
        raise LeftOutError(
            f"unreadable image: its {stream.kind} has {stream.height} x {stream.width} pixels of {stream.samples} "
            f"samples, its header says {layout.rows} x {layout.columns} of {layout.samples}"
        )
    if stream.kind == "JPEG 2000":
        return by_pydicom(encapsulate([frame]), SYNTAXES[stream.kind], layout)
    # JPEG has no planes.
    layout = replace(layout, allocated=8 if stream.precision <= 8 else 16, planar=False)
    if stream.kind == "JPEG" and stream.precision == 8:
        return by_pydicom(encapsulate([frame]), BASELINE, replace(layout, stored=8))
    return _by_imagecodecs(frame, stream, layout)


def parse_stream(frame: bytes) -> Stream | None:
    """Return what a frame says of itself, or None if it is neither JPEG nor JPEG 2000."""
    start = frame.find(b"\xff\x4f\xff\x51") if frame[4:6] == b"jP" else 0
    if frame[start : start + 4] == b"\xff\x4f\xff\x51":
        # Ends and origin of the image area, and the first component.
        size = frame[start + 8 : start + 43]
        if len(size) < 35:
            raise LeftOutError("truncated image")
        right, bottom, left, top = struct.unpack_from(">IIII", size)
        samples, precision = struct.unpack_from(">HB", size, 32)
        # A damaged origin does no harm to the image.
        height, width = (end - start if start < end else end for start, end in ((top, bottom), (left, right)))
        return Stream("JPEG 2000", (precision & 0x7F) + 1, height, width, samples)
    if frame[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 10 <= len(frame) and frame[position] == 0xFF:
        marker, length = frame[position + 1], int.from_bytes(frame[position + 2 : position + 4], "big")
        if marker in JPEG_FRAMES:
            precision, height, width, samples = struct.unpack_from(">BHHB", frame, position + 4)
            return Stream(JPEG_FRAMES[marker], precision, height, width, samples)
        # A frame of a compression that nobody decodes, or the begin of the scan without a frame.
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xDA:
            raise LeftOutError(f"unreadable image: no decoder of this JPEG, marker {marker:02X}")
        # Markers may be padded by further FF.
        position += 1 if marker == 0xFF else 2 if marker in BARE else 2 + length
    raise LeftOutError("truncated image" if position + 10 > len(frame) else "unreadable image: its JPEG is damaged")


def _by_imagecodecs(frame: bytes, stream: Stream, layout: Layout) -> npt.NDArray[Any]:
    bits = " of 12 bits" if stream.kind == "JPEG" else ""
    if importlib.util.find_spec("imagecodecs") is None:
        from pydicom.encaps import encapsulate
        from pydicom.pixels.decoders.base import get_decoder

        # Pillow counts as a decoder of 12 bits, and is none.
        if set(get_decoder(SYNTAXES[stream.kind]).available_plugins) - {"pillow"} - ({"gdcm"} if bits else set()):
            layout = replace(layout, stored=stream.precision)
            return by_pydicom(encapsulate([frame]), SYNTAXES[stream.kind], layout)
        raise LeftOutError(f"unreadable image: no decoder of {stream.kind}{bits} is installed. {ADVICE}")
    import imagecodecs

    # libjpeg fills up what is missing at the end, silently.
    if b"\xff\xd9" not in frame[-16:]:
        raise LeftOutError("truncated image")
    decode = imagecodecs.jpegls_decode if stream.kind == "JPEG-LS" else imagecodecs.jpeg8_decode
    try:
        samples = np.array(decode(frame))
    except Exception:  # noqa: BLE001  (the codecs have exceptions of their own, with messages in jargon)
        raise LeftOutError(f"unreadable image: its {stream.kind}{bits} is damaged") from None
    if not layout.signed:
        return samples
    # None of these codecs knows signs.
    spare = 8 * samples.itemsize - min(stream.precision, layout.stored)
    return np.asarray(samples.view(samples.dtype.str.replace("u", "i")) << spare >> spare)


def by_pydicom(data: bytes, syntax: str, layout: Layout, **options: Any) -> npt.NDArray[Any]:
    """Return the samples that pydicom decodes.

    Args:
        data: Value of the element of the pixels, which may be encapsulated.
        syntax: UID of the transfer syntax.
        layout: Layout of the pixels.
        options: Further options of pydicom's decoder.

    Raises:
        LeftOutError: If the pixels are damaged.
    """
    from pydicom.pixels.decoders.base import get_decoder

    try:
        return get_decoder(syntax).as_array(data, index=0, **layout.options(), **options)[0]
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (pydicom collects the messages of all decoders in a RuntimeError)
        if "truncated" in str(error):
            raise LeftOutError("truncated image") from None
        raise LeftOutError(f"unreadable image: its pixels are damaged, {_name(syntax)}") from None


def _name(syntax: str) -> str:
    from pydicom.uid import UID

    name = UID(syntax).name
    return f"the transfer syntax {syntax or '(none)'}" if name == syntax else name
