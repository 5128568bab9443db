"""Drawings of radiographs with coloured heat maps, captions and a numbered scale."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from medvlp.data.preprocessing import Window
from medvlp.metrics.grounding import Map, to_image

Bytes = npt.NDArray[np.uint8]

STRENGTH = 0.55
# Last index of the colour map in use: the dark reds above it would make the highest values look like holes.
BRIGHT = 225
# Factor of the cubic interpolation before maps are enlarged: linear interpolation between the centres of patches
# would show as a lattice.
REFINED = 16
# Number of panels per row, and least width of a panel in pixels: captions need it, so smaller images are enlarged.
COLUMNS, NARROWEST = 4, 480
TICKS = 5
PAPER, INK, SOFT, FRAME = (18, 20, 23), (236, 238, 240), (152, 160, 168), (255, 255, 255)
# Background grey of the scale: between black and white, as lung and soft tissue are.
TISSUE = 110


@dataclass(frozen=True)
class Scale:
    """The colour scale of heat maps.

    Attributes:
        low: Value without colour.
        high: Value with the strongest colour.
        name: Name of the quantity.
    """

    low: float
    high: float
    name: str

    def share(self, values: Map) -> Map:
        """Return the positions of values on the scale, 0 to 1; NaN stays NaN."""
        share: Map = np.clip((values - self.low) / max(self.high - self.low, 1e-12), 0, 1)
        return share


@dataclass(frozen=True)
class Panel:
    """One panel of the drawing: a copy of the radiograph.

    Attributes:
        title: Caption.
        note: Second line of the caption.
        heat: Heat map (h, w) on the grid of patches; None shows the radiograph alone.
    """

    title: str
    note: str = ""
    heat: Map | None = None


def enlarge(heat: npt.ArrayLike, shape: tuple[int, ...], window: Window) -> Map:
    """Interpolate a map of patches (h, w) smoothly to the pixels of an image; NaN outside the model's input.

    Args:
        heat: The map.
        shape: Height and width of the image.
        window: Window of the image that is the model's input; see `Preprocessing.window`.
    """
    values = np.asarray(heat, np.float64)
    smooth = cv2.resize(values, None, fx=REFINED, fy=REFINED, interpolation=cv2.INTER_CUBIC)
    # Cubic interpolation overshoots, but the scale ends at the extreme values of the model's map.
    return to_image(np.clip(smooth, values.min(), values.max()), (shape[0], shape[1]), window)


def holds(window: Window, shape: tuple[int, ...]) -> bool:
    """Return whether the window contains all of an image (H, W)."""
    x1, y1, x2, y2 = map(round, window)
    return x1 <= 0 and y1 <= 0 and x2 >= shape[1] and y2 >= shape[0]


def tint(share: npt.ArrayLike) -> Bytes:
    """Return the colours for shares of the scale, RGBA (H, W, 4): opacity grows with the share; 0 and NaN have none."""
    level = np.nan_to_num(np.asarray(share, np.float32))
    colours = cv2.applyColorMap(np.rint(BRIGHT * level).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.dstack([colours, np.rint(255 * STRENGTH * level).astype(np.uint8)])


def coloured(grey: Bytes, share: npt.ArrayLike) -> Bytes:
    """Return a radiograph (H, W) under the colours for shares of the scale, RGB (H, W, 3)."""
    over = tint(share)
    weight = over[..., 3:].astype(np.uint16)
    return np.asarray((grey[..., None] * (255 - weight) + over[..., :3] * weight + 127) // 255, np.uint8)


def draw(grey: Bytes, panels: Sequence[Panel], scale: Scale, window: Window, footer: str) -> Image.Image:
    """Return panels side by side, at the resolution of the radiograph or a multiple of it, with one common scale.

    Args:
        grey: The radiograph, (H, W).
        panels: The panels.
        scale: Scale of all maps.
        window: The model's input, in pixels of the radiograph. A frame marks it unless it contains all of the image.
        footer: Text below the panels.
    """
    factor = -(-NARROWEST // max(grey.shape)) if max(grey.shape) < NARROWEST else 1
    height, width = (factor * side for side in grey.shape)
    cell = max(width, NARROWEST)
    gap = size = max(16, cell // 30)
    captions = [_stacked(_text(p.title, size, INK, cell), _text(p.note, _small(size), SOFT, cell)) for p in panels]
    columns, head = min(len(panels), COLUMNS), max(caption.height for caption in captions) + gap // 2
    bar = _bar(scale, max(height, 16 * size), size)
    full, step = columns * (cell + gap) + bar.width, head + max(height, bar.height) + gap
    below = _text(footer, _small(size), SOFT, full)
    sheet = Image.new("RGB", (full + 2 * gap, -(-len(panels) // columns) * step + below.height + 2 * gap), PAPER)
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        row, column = divmod(number, columns)
        x, y = gap + column * (cell + gap), gap + row * step
        sheet.paste(caption, (x, y))
        sheet.paste(_picture(grey, panel.heat, scale, window, (width, height)), (x + (cell - width) // 2, y + head))
    sheet.paste(bar, (sheet.width - gap - bar.width, gap + head))
    sheet.paste(below, (gap, sheet.height - gap - below.height))
    return sheet


def _picture(grey: Bytes, heat: Map | None, scale: Scale, window: Window, size: tuple[int, int]) -> Image.Image:
    """Return the radiograph at a width and height, with its heat map and the frame of the model's input."""
    if heat is None:
        return Image.fromarray(grey).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    shown = coloured(grey, scale.share(enlarge(heat, grey.shape, window)))
    picture = Image.fromarray(shown).resize(size, Image.Resampling.BICUBIC)
    if holds(window, grey.shape):
        return picture
    factor, pen, dash = size[0] / grey.shape[1], ImageDraw.Draw(picture), max(4, size[0] // 100)
    x1, y1, x2, y2 = (round(factor * edge) for edge in window)
    for y in (y1, y2):
        for x in range(max(x1, 0), min(x2, size[0]), 2 * dash) if 0 < y < size[1] else ():
            pen.line([(x, y), (x + dash, y)], FRAME, max(1, dash // 4))
    for x in (x1, x2):
        for y in range(max(y1, 0), min(y2, size[1]), 2 * dash) if 0 < x < size[0] else ():
            pen.line([(x, y), (x, y + dash)], FRAME, max(1, dash // 4))
    return picture


def _bar(scale: Scale, height: int, size: int) -> Image.Image:
    """Return the scale at a height in pixels: the colours as they look on soft tissue, with numbers beside them."""
    small = _small(size)
    name = _text(scale.name, small, SOFT, 6 * size)
    top, bottom = name.height + small, height - small
    bar = Image.new("RGB", (6 * size, height), PAPER)
    bar.paste(name, (0, 0))
    share = np.linspace(1, 0, bottom - top)[:, None].repeat(size, 1)
    bar.paste(Image.fromarray(coloured(np.full(share.shape, TISSUE, np.uint8), share)), (0, top))
    pen = ImageDraw.Draw(bar)
    for place in np.linspace(0, 1, TICKS):
        y = round(bottom - 1 - place * (bottom - 1 - top))
        pen.line([(size, y), (size + size // 3, y)], SOFT, max(1, size // 14))
        value = scale.low + place * (scale.high - scale.low)
        pen.text((size + size // 2, y), f"{value:.2f}", INK, ImageFont.load_default(small), anchor="lm")
    return bar


def _text(text: str, size: int, colour: tuple[int, int, int], width: int) -> Image.Image:
    """Return a picture of a text that is wrapped at a width in pixels."""
    font = ImageFont.load_default(size)
    lines = [""]
    # Pillow's own font is the same on every machine, but its character set is limited: keep to ASCII.
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    for word in "".join(letters).encode("ascii", "replace").decode().split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    step = round(1.3 * size)
    picture = Image.new("RGB", (width, len(lines) * step), PAPER)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((0, number * step), line, colour, font)
    return picture


def _small(size: int) -> int:
    return max(13, round(0.72 * size))


def _stacked(*pictures: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), PAPER)
    y = 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height
    return sheet
