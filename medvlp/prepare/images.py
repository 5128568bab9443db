"""One image file to one square of grey pixels, and boxes and masks along with it."""

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
# JPEG is decoded at the smallest of 1/8, 1/4, 1/2 and 1 that leaves this many pixels for each pixel of the result.
# With 2 the result differs from that of a full decode by about 1/500 of the range (54 dB), in 40 % of its time.
OVERSAMPLING = 2


def read_image(path: str, size: int, resize: Resize) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """Return an image file as grey pixels of shape (size, size), and its geometry.

    Colour is turned to luma, transparency ignored; more than 8 bits are scaled from the image's own range. DICOM is
    known by its content and shown as `medvlp.prepare.dicom.read_dicom` says.

    Args:
        path: Image file.
        size: Side of the result.
        resize: Keep the aspect ratio, or not; see `Geometry.of`.

    Raises:
        LeftOutError: If the file is not there or cannot be decoded to its end.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # Pillow warns of images that may be decompression bombs, and both it and pydicom of odd metadata.
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
                    # Fed in blocks of 64 KiB, libjpeg begins the row it is in again at each of them: 10 % of the time.
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
        # Only what the operating system says is free of paths and addresses, which differ between runs.
        kind = os.strerror(error.errno) if error.errno else type(error).__name__
        raise LeftOutError("truncated image" if "truncated" in str(error) else f"unreadable image: {kind}") from None
    except Exception as error:  # noqa: BLE001  (decoders raise whatever their parsing of a broken file runs into)
        raise LeftOutError(f"unreadable image: {type(error).__name__}") from None
    return geometry.place(np.asarray(resized)), geometry


def resize_mask(mask: npt.NDArray[np.bool_], geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Return the share of each pixel of the square that is in a mask, uint8 (size, size), 255 being all of it.

    Args:
        mask: bool (height, width) of the original, or of a copy of it of another size.
        geometry: Where the original comes to lie.
    """
    import cv2

    # Pillow's box filter is not the area: it takes or leaves a pixel that is cut. OpenCV's is, but only downwards.
    width, height = geometry.inner
    fine = mask.view(np.uint8) * np.uint8(255)
    fine = fine.repeat(-(-height // len(mask)), axis=0).repeat(-(-width // mask.shape[1]), axis=1)
    return geometry.place(np.asarray(cv2.resize(fine, geometry.inner, interpolation=cv2.INTER_AREA), np.uint8))
