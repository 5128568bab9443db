"""Conversion of pixels of any depth and colour to 8-bit grey levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# Tag of TIFF, and its value for pixels whose lowest value is white.
PHOTOMETRIC, MIN_IS_WHITE = 262, 0
LUMA = np.array([299, 587, 114], np.float32) / 1000

# Of the range of an image: bins of its histogram, bins of a span that is more than half of it, and the number of
# pixels that the histogram counts.
BINS, SPAN, COUNTED = 512, 257, 1 << 18
# Greatest shares of pixels: within such a span, and beyond it. A marker of letters has about 1 %.
STRAY, MARKER = 0.0005, 0.05


def to_grey(image: Image.Image) -> Image.Image:
    """Return an image of any mode in mode L. What is transparent is black."""
    from PIL import Image

    if image.mode in WIDE_MODES:
        pixels = scale_to_bytes(np.asarray(image))
        # Pillow inverts those of 8 bits itself.
        tags: Any = getattr(image, "tag_v2", {})
        return Image.fromarray(~pixels if tags.get(PHOTOMETRIC) == MIN_IS_WHITE else pixels)
    image.load()
    if image.has_transparency_data:
        image = _on_black(image.convert("RGBA"))
    # Pillow converts every mode to RGB, and RGB to grey.
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def _on_black(image: Image.Image) -> Image.Image:
    """Return an image of mode RGBA on a black ground, in mode RGB."""
    from PIL import Image

    alpha = image.getchannel("A")
    # A channel that hides all of the image is none.
    if not alpha.getextrema()[1]:
        return image.convert("RGB")
    return Image.composite(image.convert("RGB"), Image.new("RGB", image.size), alpha)


def colour_to_grey(colours: npt.NDArray[Any], *, luma: bool = False) -> npt.NDArray[np.uint8]:
    """Return the luma of colours, uint8 (H, W); more than 8 bits are scaled by `scale_to_bytes`.

    Args:
        colours: (H, W, 3), red, green and blue, or luma and two differences.
        luma: Whether the first channel is the luma.
    """
    from PIL import Image

    if colours.dtype == np.uint8 and not luma:
        return np.asarray(Image.fromarray(colours).convert("L"))
    grey = colours[..., 0] if luma else colours.astype(np.float32) @ LUMA
    return np.asarray(grey, np.uint8) if grey.dtype == np.uint8 else scale_to_bytes(grey)


def scale_to_bytes(pixels: npt.NDArray[Any], *, robust: bool = True) -> npt.NDArray[np.uint8]:
    """Return an array scaled from its range to 0..255; zeros for a constant array, and NaN is black.

    Args:
        pixels: Array of any type and shape.
        robust: Whether the range leaves out a marker or stray pixels; see `find_range`.
    """
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not finite.size:
        return np.zeros(pixels.shape, np.uint8)
    low, high = find_range(finite) if robust else (float(finite.min()), float(finite.max()))
    # Integers of 32 bits have more digits than a float of 32 bits.
    small = pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32
    values = pixels.astype(np.float32 if small else np.float64)
    if pixels.dtype.kind == "f":
        values = np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    scaled = (values - low) * (255 / (high - low) if high > low else 0.0)
    return np.asarray(np.rint(np.clip(scaled, 0, 255)), np.uint8)


def find_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the lowest and the highest of finite values, without a few that lie far from all others.

    These are left out at an end of the range if a span of more than half of it holds at most STRAY of the pixels, and
    beyond the span are at most MARKER of them, or pixels of one value only, as of a frame.
    """
    low, high = float(values.min()), float(values.max())
    flat = values.reshape(-1)
    # An odd step visits all columns of an image.
    counted = flat[:: len(flat) // COUNTED | 1]
    while low < high:
        shares = np.histogram(counted, BINS, (low, high))[0] / len(counted)
        below = np.concatenate(([0.0], np.cumsum(shares)))
        total = below[-1]
        before, after = below[:-SPAN], total - below[SPAN:]
        sparse = total - before - after <= STRAY
        few_above = sparse & ((after <= MARKER) | (shares[-1] >= after * 0.99)) & (before >= total / 2)
        few_below = sparse & ((before <= MARKER) | (shares[0] >= before * 0.99)) & (after >= total / 2)
        # The outermost span: a span further in may begin within the content.
        step = (high - low) / BINS
        if few_above.any():
            edge = low + float(np.flatnonzero(few_above)[-1]) * step
            inner = values[(values >= low) & (values <= edge)]
        elif few_below.any():
            edge = low + float(np.flatnonzero(few_below)[0] + SPAN) * step
            inner = values[(values >= edge) & (values <= high)]
        else:
            break
        # An image of two values has no other content.
        if not inner.size or inner.min() == inner.max():
            break
        low, high = float(inner.min()), float(inner.max())
    return low, high
