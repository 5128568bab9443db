"""The decoding of an image file into a square of grey pixels, and the resizing of its mask."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom import is_dicom, read_dicom
from medvlp.prepare.formats import HEAD, describe
from medvlp.prepare.pixels import LUMA, WIDE_MODES, scale_to_bytes, to_grey
from medvlp.prepare.source import Source, open_source
from medvlp.prepared import Geometry, Resize

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ["JPEG", "PNG", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "WEBP"]
# Those that may be animations; a TIFF of several pages is none.
ANIMATED = ("GIF", "PNG", "WEBP")
# JPEG is decoded at the smallest scale, 1/8, 1/4, 1/2 or 1, with this many pixels for each pixel of the result.
# With 2 the result differs from that of a full decode by about 1/500 of the range (54 dB), in 40 % of its time.
OVERSAMPLING = 2
# Largest ratio of the sides of an image that is cropped to a square.
LONGEST = 16
ORIENTATION = 274
# Names of Pillow's turns to upright, by EXIF orientation.
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def read_image(source: Source, size: int, resize: Resize) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """Return an image as grey pixels of shape (size, size), and its geometry.

    Colour becomes luma, and what is transparent is black. More than 8 bits are scaled from the range of the image; see
    `medvlp.prepare.pixels.scale_to_bytes`. The image is turned upright as its EXIF orientation says. Of the pages of a
    TIFF the largest counts, the first one of several. DICOM is recognised by its content; see
    `medvlp.prepare.dicom.image.read_dicom`.

    Args:
        source: Path of the image file, or its content.
        size: Side of the result in pixels.
        resize: Keep the aspect ratio and pad, squash, or keep it and crop; see `Geometry.of`.

    Raises:
        LeftOutError: If the file is missing or cannot be decoded to its end.
    """
    from PIL import Image, UnidentifiedImageError

    head = b""
    try:
        # Pillow warns of possible decompression bombs; Pillow and pydicom warn of odd metadata.
        with warnings.catch_warnings(), open_source(source) as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            length = file.seek(0, os.SEEK_END)
            file.seek(0)
            if length == 0:
                raise LeftOutError("empty file")
            head = file.peek(HEAD)[:HEAD]
            if is_dicom(file):
                pixels = read_dicom(source, Image.MAX_IMAGE_PIXELS or sys.maxsize)
                height, width = pixels.shape
                geometry = _place(height, width, size, resize)
                resized = Image.fromarray(pixels).resize(geometry.inner, Image.Resampling.HAMMING)
            else:
                with Image.open(file, formats=FORMATS) as image:
                    # With blocks of 64 KiB, libjpeg decodes the current row again for each block: 10 % of the time.
                    image.decodermaxblock = max(length, image.decodermaxblock)
                    resized, geometry = _read_other(image, source, size, resize)
    except (LeftOutError, MemoryError):
        raise
    except FileNotFoundError:
        raise LeftOutError("missing file") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise LeftOutError("unreadable image: too many pixels, perhaps a decompression bomb") from None
    except UnidentifiedImageError:
        raise LeftOutError(f"unreadable image: {describe(head)}") from None
    except Exception as error:  # noqa: BLE001  (decoders raise any exception for a broken file)
        if "truncated" in str(error):
            raise LeftOutError("truncated image") from None
        # Only messages of the operating system are made for users, and have no paths and addresses.
        number = error.errno if isinstance(error, OSError) else None
        raise LeftOutError(f"unreadable image: {os.strerror(number) if number else 'the file is damaged'}") from None
    return geometry.place(np.asarray(resized)), geometry


def _place(height: int, width: int, size: int, resize: Resize) -> Geometry:
    """Return the geometry of an image, unless most of it would be cut off, at any cost of memory."""
    geometry = Geometry.of(height, width, size, resize)
    if max(geometry.inner) > LONGEST * size:
        raise LeftOutError(f"more than {LONGEST} times as long as wide, or as wide as long")
    return geometry


def _read_other(image: Image.Image, source: Source, size: int, resize: Resize) -> tuple[Image.Image, Geometry]:
    """Return an opened image of another format than DICOM, resized to its place in the square, and its geometry."""
    from PIL import Image

    _seek_largest(image)
    wide = _is_wide_colour(image)  # Asking for the orientation may load the image.
    turn = TURNS.get(_orientation(image))
    turned = turn in ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    height, width = (image.width, image.height) if turned else (image.height, image.width)
    geometry = _place(height, width, size, resize)
    inner = geometry.inner[::-1] if turned else geometry.inner
    if wide and (grey := _read_wide_colour(source, image.size)):
        drafted = None
    else:
        drafted = image.draft("L", (OVERSAMPLING * inner[0], OVERSAMPLING * inner[1]))
        grey = to_grey(image)
    # The reduced image is a whole number of pixels; the original ends within the last of them.
    resized = grey.resize(inner, Image.Resampling.HAMMING, box=drafted[1] if drafted else None)
    return resized.transpose(Image.Transpose[turn]) if turn else resized, geometry


def _seek_largest(image: Image.Image) -> None:
    """Turn to the largest page of a TIFF, the first one of several.

    Raises:
        LeftOutError: If the image is an animation: none of its frames is known to be the radiograph.
    """
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format in ANIMATED:
        raise LeftOutError(f"unreadable image: an animation of {pages} frames")
    if image.format != "TIFF" or pages == 1:
        return
    areas = []
    for page in range(pages):
        image.seek(page)
        areas.append(image.width * image.height)
    image.seek(areas.index(max(areas)))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1, upright, if it has none or Pillow turns it itself."""
    if image.format == "TIFF":
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  (Pillow raises any exception for broken metadata, without which the image is whole)
        return 1


def _is_wide_colour(image: Image.Image) -> bool:
    """Return whether an opened image has colours of 16 bits, which Pillow cuts to their upper 8."""
    # OpenCV reads the first page, and leaves it as it is turned.
    if image.format == "TIFF" and (image.tell() or getattr(image, "tag_v2", {}).get(ORIENTATION, 1) != 1):
        return False
    return image.mode not in WIDE_MODES and any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def _read_wide_colour(source: Source, size: tuple[int, int]) -> Image.Image | None:
    """Return the luma of colours of 16 bits, or None if OpenCV cannot read them or they are not of this size."""
    import cv2
    from PIL import Image

    with open_source(source) as file:
        colours = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if colours is None or colours.dtype != np.uint16 or colours.ndim != 3 or colours.shape[1::-1] != size:
        return None
    grey = colours[..., 2::-1].astype(np.float32) @ LUMA
    if colours.shape[2] == 4 and (alpha := colours[..., 3]).any():
        grey *= alpha / np.float32(65535)
    return Image.fromarray(scale_to_bytes(grey))


def resize_mask(mask: npt.NDArray[np.bool_], geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Return the share of each pixel of the square that a mask covers, uint8 (size, size); 255 is the whole pixel.

    Args:
        mask: bool (height, width) of the original, or of a copy of another size.
        geometry: Place of the original in the square.
    """
    import cv2

    # Pillow's box filter counts a cut pixel as whole or not at all. OpenCV's counts areas, but only to shrink.
    width, height = geometry.inner
    fine = mask.view(np.uint8) * np.uint8(255)
    fine = fine.repeat(-(-height // len(mask)), axis=0).repeat(-(-width // mask.shape[1]), axis=1)
    return geometry.place(np.asarray(cv2.resize(fine, geometry.inner, interpolation=cv2.INTER_AREA), np.uint8))
