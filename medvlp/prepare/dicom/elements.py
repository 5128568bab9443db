"""The elements of a DICOM file, and of files that keep to the format in part only.

Source: DICOM PS3.10, 7.1 (preamble and meta header), and PS3.5, 7.1 (elements) and A.4 (encapsulated pixels).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from medvlp.errors import LeftOutError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
DEFLATED = "1.2.840.10008.1.2.1.99"
# A radiograph of 16 bits has less than a quarter of it.
MAX_INFLATED = 1 << 28
PREFIX = b"DICM"
# Length of the preamble, of the prefix behind it, and of the header of an element that tells its kind.
PREAMBLE, HEAD = 128, 128 + 4 + 8
ITEM = 0xE000


@dataclass(frozen=True)
class Content:
    """Content of a DICOM file.

    Attributes:
        elements: The wanted elements that it has.
        syntax: UID of the transfer syntax; empty if the file names none.
        little_endian: Order of the bytes of the elements.
        pixels: Keyword of the element with the pixels; empty if it has none.
        vr: Value representation of that element; empty if the file names none.
        file: Open file, at the value of that element.
        length: Length of that value in bytes, or None if it is undefined.
    """

    elements: Dataset
    syntax: str
    little_endian: bool
    pixels: str
    vr: str
    file: BinaryIO
    length: int | None

    def read(self, limit: int) -> bytes:
        """Return at most `limit` bytes of the pixels."""
        return self.file.read(limit if self.length is None else min(limit, self.length))

    def read_rest(self) -> bytes:
        """Return the pixels, or what is there of them, from the position of the file."""
        return self.file.read()[: self.length]


def find_start(head: bytes) -> int | None:
    """Return where the elements of a DICOM file begin, or None if it is no DICOM.

    Args:
        head: Its first HEAD bytes. Preamble and prefix may both be missing, and either.
    """
    for start in (PREAMBLE, 0):
        if head[start : start + len(PREFIX)] == PREFIX:
            return start + len(PREFIX)
    if _begins_elements(head):
        return 0
    return PREAMBLE if not any(head[:PREAMBLE]) and _begins_elements(head[PREAMBLE:]) else None


def read_content(file: BinaryIO, keywords: Sequence[str]) -> Content:
    """Return the content of a DICOM file up to its pixels.

    The order of bytes and the kind of elements are those that the file has, whatever transfer syntax it names.

    Args:
        file: The file, open at its beginning.
        keywords: Keywords of the wanted elements: a broken element elsewhere does no harm.

    Raises:
        LeftOutError: If it inflates to more than MAX_INFLATED bytes.
        Exception: Any error of the parser for a broken file.
    """
    from pydicom.filereader import data_element_offset_to_value, read_dataset
    from pydicom.tag import Tag

    file.seek(find_start(file.read(HEAD)) or 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = str(value(meta, "TransferSyntaxUID") or "").strip("\0 ")
    if syntax == DEFLATED:
        file = BytesIO(_inflate(file.read()))
    place = file.tell()
    head = file.read(6)
    file.seek(place)
    little = not _is_big_endian(head)
    last: list[tuple[int, str | None, int]] = []

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag < min(PIXELS):
            return False
        last.append((tag, vr, length))
        return True

    tags: list[BaseTag | int] = [Tag(keyword) for keyword in keywords]
    try:
        elements = read_dataset(file, not _is_explicit(head), little, stop_when=stop, specific_tags=tags)
    except MemoryError:
        raise LeftOutError("unreadable image: a DICOM element is longer than the memory") from None
    tag, vr, length = last[0] if last else (0, None, 0)
    if tag in PIXELS:
        file.seek(data_element_offset_to_value(vr is None, vr or ""), 1)
    undefined = length == 0xFFFFFFFF
    return Content(elements, syntax, little, PIXELS.get(tag, ""), vr or "", file, None if undefined else length)


def starts_items(data: bytes) -> bool:
    """Return whether pixels are encapsulated: they begin with an item."""
    return data[:4] == struct.pack("<HH", 0xFFFE, ITEM)


def join_fragments(data: bytes) -> bytes:
    """Return the compressed frame of encapsulated pixels of one frame. The sequence delimiter may be missing.

    Raises:
        LeftOutError: If an item is cut, or there is none.
    """
    items, position = [], 0
    while len(head := data[position : position + 8]) == 8:
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) != (0xFFFE, ITEM):
            break
        position += 8
        items.append(data[position : position + length])
        # Only the byte that makes a length even may be missing.
        if len(items[-1]) < length - 1:
            raise LeftOutError("truncated image")
        position += length
    # The first item is the offset table; some files have none.
    frame = b"".join(items[1:] or items)
    if not frame:
        raise LeftOutError("truncated image")
    return frame


def value(elements: Dataset, keyword: str) -> Any:
    """Return the value of an element, or None if it is missing or empty.

    Raises:
        LeftOutError: If it cannot be decoded.
    """
    try:
        found = elements.get(keyword)
    except Exception:  # noqa: BLE001  (pydicom decodes elements late, and raises any exception for a broken one)
        raise LeftOutError(f"unreadable image: the DICOM element {keyword} is damaged") from None
    return None if found is None or found == "" else found


def number(elements: Dataset, keyword: str) -> float | None:
    """Return the first value of an element, or None if it has none.

    Raises:
        LeftOutError: If it is no finite number.
    """
    found = value(elements, keyword)
    if isinstance(found, Sequence) and not isinstance(found, (str, bytes)):
        found = found[0] if found else None
    if found in (None, ""):
        return None
    try:
        result = float(found)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise LeftOutError(f"unreadable image: the DICOM element {keyword} is no number")
    return result


def code(elements: Dataset, keyword: str) -> str:
    """Return the code of an element in upper case, without padding, parted by `_`; empty if it has none."""
    return "_".join(str(value(elements, keyword) or "").replace("\0", " ").replace("_", " ").upper().split())


def _begins_elements(head: bytes) -> bool:
    """Return whether bytes begin with an element of the meta header or the first group, PS3.6."""
    if len(head) < 8:
        return False
    group, element = struct.unpack(">HH" if _is_big_endian(head) else "<HH", head[:4])
    if group not in (2, 8) or element > 0xFF:
        return False
    return _is_explicit(head) or int.from_bytes(head[4:8], "little") < 1 << 10


def _is_big_endian(head: bytes) -> bool:
    """Return whether the group of the first element, always a small number, has its bytes in this order."""
    return head[:1] == b"\0" and head[1:2] != b"\0"


def _is_explicit(head: bytes) -> bool:
    """Return whether the first element names its value representation."""
    return head[4:6].isalpha() and head[4:6].isupper()


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(data, MAX_INFLATED)
    if stream.unconsumed_tail:
        raise LeftOutError("unreadable image: too many bytes when inflated, perhaps a decompression bomb")
    return inflated
