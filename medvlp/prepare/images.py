"""The decoding of an image file into a square of grey pixels, and the resizing of its mask."""

from __future__ import annotations

import os
import sys
import warnings

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.dicom import is_dicom, read_dicom
from medvlp.prepare.pixels import to_grey
from medvlp.prepared import Geometry, Resize

FORMATS = ["JPEG", "PNG", "TIFF", "BMP", "PPM", "GIF", "JPEG2000", "WEBP"]
# JPEG is decoded at the smallest scale, 1/8, 1/4, 1/2 or 1, with this many pixels for each pixel of the result.
# With 2 the result differs from that of a full decode by about 1/500 of the range (54 dB), in 40 % of its time.
OVERSAMPLING = 2


def read_image(path: str, size: int, resize: Resize) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """Return an image file as grey pixels of shape (size, size), and its geometry.

    Colour becomes luma, and transparency is ignored. More than 8 bits are scaled from the range of the image. DICOM is
    recognised by its content; see `medvlp.prepare.dicom.read_dicom`.

    Args:
        path: Image file.
        size: Side of the result in pixels.
        resize: Keep the aspect ratio and pad, or squash; see `Geometry.of`.

    Raises:
        LeftOutError: If the file is missing or cannot be decoded to its end.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow warns of possible decompression bombs; Pillow and pydicom warn of odd metadata.
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            length = os.fstat(file.fileno()).st_size
            if length == 0:
                raise LeftOutError("empty file")
            if is_dicom(file):
                pixels = read_dicom(path, Image.MAX_IMAGE_PIXELS or sys.maxsize)
                height, width = pixels.shape
                geometry = Geometry.of(height, width, size, resize)
                resized = Image.fromarray(pixels).resize(geometry.inner, Image.Resampling.HAMMING)
            else:
                with Image.open(file, formats=FORMATS) as image:
                    # With blocks of 64 KiB, libjpeg decodes the current row again for each block: 10 % of the time.
                    image.decodermaxblock = max(length, image.decodermaxblock)
                    geometry = Geometry.of(image.height, image.width, size, resize)
                    width, height = geometry.inner
                    drafted = image.draft("L", (OVERSAMPLING * width, OVERSAMPLING * height))
                    grey = to_grey(image)
                    # The reduced image is a whole number of pixels; the original ends within the last of them.
                    box = drafted[1] if drafted else None
                    resized = grey.resize(geometry.inner, Image.Resampling.HAMMING, box=box)
    except (LeftOutError, MemoryError):
        raise
    except FileNotFoundError:
        raise LeftOutError("missing file") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise LeftOutError("unreadable image: too many pixels, perhaps a decompression bomb") from None
    except UnidentifiedImageError:
        raise LeftOutError("unreadable image: not a known format") from None
    except OSError as error:
        # Only messages of the operating system have no paths and addresses, which differ between runs.
        kind = os.strerror(error.errno) if error.errno else type(error).__name__
        raise LeftOutError("truncated image" if "truncated" in str(error) else f"unreadable image: {kind}") from None
    except Exception as error:  # noqa: BLE001  (decoders raise any exception for a broken file)
        raise LeftOutError(f"unreadable image: {type(error).__name__}") from None
    return geometry.place(np.asarray(resized)), geometry


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
